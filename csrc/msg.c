/*
 * msg.c - the protocol between nsexec and its parent.
 *
 *	nsexec					parent (Python)
 *	AT(index) [fd]			-->	the plan says what waits there: run it
 *					<--	GO(index) [payload] [fd...]
 *	WARN(index, errno, step)	-->	a line in the log
 *	FAILED(index, errno, step)	-->	an error; nsexec is gone
 *	end of file			-->	after AT(exec): execve has happened.  Before it: nsexec is dead
 *
 * Up to the gate, messages go over a SOCK_SEQPACKET socket pair. From the gate on they go through a pair of FIFOs in
 * the container's state directory, so that any process may start the container: GO through one, the rest through the
 * other. A message is one struct, never split: it is smaller than PIPE_BUF.
 */

#include <asm/signal.h>
#include <linux/socket.h>

#include "run.h"

#define SOL_SOCKET_LEVEL 1
#define SCM_RIGHTS_TYPE 1
#define NO_SIGNAL 0x4000
#define CLOSE_ON_EXEC 0x40000000
#define MAX_FDS_A_MESSAGE 250
#define SIGNALLED 128             /* and the signal: the exit status that shells give */
#define RESTORER_GIVEN 0x04000000 /* SA_RESTORER */

/* Behind a seccomp filter that lets nothing end in peace, a signal ends it. */
void leave(int status)
{
	sys1(__NR_exit_group, status);
	for (;;)
		__builtin_trap();
}

static int send_message(struct run *r, int fd)
{
	struct {
		struct k_cmsghdr header;
		int fd;
		int padding;
	} control = { { sizeof(struct k_cmsghdr) + sizeof(int), SOL_SOCKET_LEVEL, SCM_RIGHTS_TYPE },
		      fd,
		      0 };
	struct k_iovec part = { &r->message, MESSAGE_HEADER + (size_t)r->message.length };
	struct k_msghdr message = { .iov = &part, .iov_length = 1 };
	int sent;

	if (r->report >= 0)
		return sys3(__NR_write, r->report, &r->message, part.length);
	if (fd >= 0) {
		message.control = &control;
		message.control_length = sizeof(control);
	}
	do
		sent = sys3(__NR_sendmsg, r->socket, &message, NO_SIGNAL);
	while (sent == -EINTR);
	return sent;
}

static void head(struct run *r, enum message_kind kind, uint32_t index)
{
	r->message.kind = kind;
	r->message.index = index;
	r->message.error = 0;
	r->message.step = STEP_NONE;
	r->message.value = 0;
	r->message.length = 0;
}

int send_at(struct run *r, int64_t value, int fd)
{
	int sent;

	head(r, MESSAGE_AT, r->op->index);
	r->message.value = value;
	sent = send_message(r, fd);
	return at(r, STEP_PROTOCOL, sent < 0 ? sent : 0);
}

void warn(struct run *r, int error, enum step step)
{
	head(r, MESSAGE_WARN, r->op->index);
	r->message.error = -error;
	r->message.step = step;
	send_message(r, -1);
}

/* The payload, where there is one, is in place already. */
void fail(struct run *r, uint32_t index, int error)
{
	size_t tail = r->tail_length;

	head(r, MESSAGE_FAILED, index);
	r->message.error = -error;
	r->message.step = r->step;
	r->message.value = r->value;
	r->message.length = tail;
	send_message(r, -1);
	leave(1);
}

static int take_fds(struct run *r, const struct k_msghdr *message, const struct k_cmsghdr *control)
{
	const int *fds = (const int *)(const void *)(control + 1);
	size_t count;

	if (message->control_length < sizeof(*control))
		return 0;
	if (control->level != SOL_SOCKET_LEVEL || control->type != SCM_RIGHTS_TYPE ||
	    control->length < sizeof(*control))
		return -EPROTO;
	count = (control->length - sizeof(*control)) / sizeof(int);
	if (count > MAX_SLOTS - r->slot_count)
		return -EPROTO;
	for (size_t i = 0; i < count; i++)
		r->slots[r->slot_count++] = fds[i];
	return 0;
}

static int receive(struct run *r, uint32_t index)
{
	union {
		struct k_cmsghdr header;
		char bytes[sizeof(struct k_cmsghdr) + MAX_FDS_A_MESSAGE * sizeof(int)];
	} control;
	struct k_iovec part = { &r->message, sizeof(r->message) };
	struct k_msghdr message = { .iov = &part,
				    .iov_length = 1,
				    .control = &control,
				    .control_length = sizeof(control) };
	int length;

	do
		length = sys3(__NR_recvmsg, r->socket, &message, CLOSE_ON_EXEC);
	while (length == -EINTR);
	if (length == 0)
		leave(1); /* the parent is dead, and nobody is left to tell */
	if (length < 0)
		return at(r, STEP_PROTOCOL, length);
	if ((size_t)length < MESSAGE_HEADER || r->message.kind != MESSAGE_GO ||
	    r->message.index != index)
		return at(r, STEP_PROTOCOL, -EPROTO);
	if (r->message.length != (size_t)length - MESSAGE_HEADER)
		return at(r, STEP_PROTOCOL, -EPROTO);
	return at(r, STEP_PROTOCOL, take_fds(r, &message, &control.header));
}

/* HOME, if it was asked for and has not been taken yet: nobody waits for it until the next message is needed. */
int receive_home(struct run *r)
{
	int error;

	if (!r->home_asked)
		return 0;
	r->home_asked = 0;
	error = receive(r, r->home_index);
	if (error)
		return error;
	if (r->message.length >= HOME_BYTES)
		return at(r, STEP_PROTOCOL, -EPROTO);
	copy_bytes(r->home, r->message.payload, (size_t)r->message.length);
	r->home[r->message.length] = 0;
	return 0;
}

/* Waits for the parent's GO. Its descriptors become slots, its payload stays in r->message. */
int receive_go(struct run *r)
{
	int error = receive_home(r);

	return error ? error : receive(r, r->op->index);
}

static void end_by_signal(int number)
{
	leave(SIGNALLED + number);
}

/*
 * To the init of a pid namespace only signals come that it handles: without this, one that asks a created container to
 * end would be lost. execve(2) takes the handlers away.
 */
static void heed_signals(void)
{
	static const int asking[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	struct {
		void (*handler)(int number);
		unsigned long flags;
		void (*restorer)(int number); /* x86-64 wants one; nobody returns to it */
		unsigned long mask;
	} action = { end_by_signal, RESTORER_GIVEN, end_by_signal, 0 };

	for (size_t i = 0; i < sizeof(asking) / sizeof(*asking); i++)
		sys4(__NR_rt_sigaction, asking[i], &action, NULL, sizeof(action.mask));
}

/*
 * The container is created: the parent may go. nsexec holds both FIFOs open for reading and writing, so it neither
 * sees an end of file when a starter comes and goes, nor a SIGPIPE; whoever opens the gate for writing gets ENXIO once
 * nsexec has turned into the container's process or is dead.
 */
int wait_at_gate(struct run *r)
{
	int length;

	/*
	 * Whoever looks into a waiting container's descriptors finds nothing but the gate, and what leads nowhere. Slots
	 * that were used up may have numbers that belong to something else by now.
	 */
	close_fd(&r->root);
	close_fd(&r->null);
	close_fd(&r->covered);
	close_fd(&r->proc);
	r->root = r->null = r->covered = r->proc = -1;
	r->gate = r->slots[r->plan.header.gate_slot];
	for (uint32_t i = 0; i < r->slot_count; i++)
		if (r->slots[i] != r->gate && r->slots[i] != r->slots[r->plan.header.report_slot] &&
		    r->slots[i] != r->state_fd && r->slots[i] != r->agent &&
		    r->slots[i] != r->agent_state && r->slots[i] != r->ruleset &&
		    !serves_later_hook(r, i))
			sys1(__NR_close, r->slots[i]);
	heed_signals();
	if (send_at(r, 0, -1))
		return -EPIPE;
	sys1(__NR_close, r->socket);
	r->socket = -1;
	r->report = r->slots[r->plan.header.report_slot];
	do
		length = sys3(__NR_read, r->gate, &r->message, sizeof(r->message));
	while (length == -EINTR || length == -EAGAIN);
	/* From here on it is no longer "created": a second starter finds nobody at the gate. */
	close_fd(&r->gate);
	r->gate = -1;
	if (length < 0)
		return at(r, STEP_READ, length);
	if ((size_t)length < MESSAGE_HEADER || r->message.kind != MESSAGE_GO ||
	    r->message.index != r->op->index)
		return at(r, STEP_PROTOCOL, -EPROTO);
	return 0;
}
