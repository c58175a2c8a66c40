/* op_ns.c - namespaces, the stages of a launch, and what must happen while user namespaces change. */

#include <asm/fcntl.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/sockios.h>

#include "run.h"

#define SIGNAL_KILL 9
#define SLOT_JOINED (-4095) /* no errno of ours */
#define POSSESSOR_ALL 0x3f000000L

/* The launcher has done it: it is in the plan so that the plan says so, and so that its time can be seen. */
int op_clone(struct run *r, struct cursor *c)
{
	(void)r;
	(void)c;
	return 0;
}

/* The parent may have died before this took effect: then the next GO never comes, and end of file does. */
int watch_parent_death(const struct run *r)
{
	int error = sys5(__NR_prctl, PR_SET_PDEATHSIG, SIGNAL_KILL, 0, 0, 0);

	if (!error && r->undumpable)
		error = sys5(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	return error;
}

int forget_parent_death(void)
{
	return sys5(__NR_prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0);
}

/*
 * sync "u": what is waited for. The payload of most is nothing; SYNC_HOOKS brings a state file along, SYNC_SECCOMP the
 * connection to the agent and what to tell it. SYNC_COPY_FROM hands over the directory that a mount is going to cover,
 * SYNC_COPY_UP the mount that is to be filled from it, SYNC_NETLINK a netlink socket of our network namespace.
 */
enum {
	SYNC_PLAIN,
	SYNC_CREATED,
	SYNC_START,
	SYNC_EXEC,
	SYNC_HOOKS,
	SYNC_SECCOMP,
	SYNC_COPY_FROM,
	SYNC_COPY_UP,
	SYNC_NETLINK
};

static int show_network(struct run *r)
{
	auto_fd fd = at(r, STEP_SOCKET,
			sys3(__NR_socket, 16 /* AF_NETLINK */, 2 /* SOCK_DGRAM */ | O_CLOEXEC, 0));
	int error;

	if (fd < 0)
		return fd;
	error = send_at(r, 0, fd);
	return error ? error : receive_go(r);
}

int op_sync(struct run *r, struct cursor *c)
{
	uint32_t before = r->slot_count;
	uint64_t kind = take_u64(c);
	int fd = -1;
	int error;

	switch (kind) {
	case SYNC_START:
		return wait_at_gate(r);
	case SYNC_EXEC:
		error = receive_home(r);
		return error ? error : send_at(r, 0, -1);
	case SYNC_CREATED:
		error = at(r, STEP_PRCTL, forget_parent_death());
		break;
	case SYNC_PLAIN:
	case SYNC_HOOKS:
	case SYNC_SECCOMP:
		error = 0;
		break;
	case SYNC_NETLINK:
		return show_network(r);
	case SYNC_COPY_FROM:
	case SYNC_COPY_UP:
		fd = kind == SYNC_COPY_UP ? r->tree : r->place;
		error = fd < 0 ? at(r, STEP_PROTOCOL, -EPROTO) : 0;
		break;
	default:
		return at(r, STEP_PROTOCOL, -EPROTO);
	}
	if (!error)
		error = send_at(r, 0, fd);
	if (!error)
		error = receive_go(r);
	if (!error && kind == SYNC_SECCOMP) {
		if (r->slot_count != before + 2)
			return at(r, STEP_PROTOCOL, -EPROTO);
		r->agent = r->slots[before];
		r->agent_state = r->slots[before + 1];
	} else if (!error && (kind == SYNC_CREATED || kind == SYNC_HOOKS) && r->slot_count > before)
		r->state_fd = r->slots[r->slot_count - 1];
	return error;
}

int slot_fd(struct run *r, uint64_t slot)
{
	if (slot >= r->slot_count)
		return at(r, STEP_PROTOCOL, -EPROTO);
	return r->slots[slot];
}

/*
 * join "uu": slot of a namespace file or a pidfd, CLONE_NEW* flags. With JOIN_ATTEMPT a refusal is none yet: the same join
 * comes again once the user namespace is another one. A slot that was joined is not joined twice.
 */
int op_join(struct run *r, struct cursor *c)
{
	uint64_t slot = take_u64(c);
	uint64_t flags = take_u64(c);
	int fd = slot_fd(r, slot);
	int error;

	if (fd == SLOT_JOINED)
		return 0;
	if (fd < 0)
		return fd;
	error = sys2(__NR_setns, fd, flags & ~JOIN_ATTEMPT);
	if (error == -EPERM && flags & JOIN_ATTEMPT)
		return 0;
	if (at(r, STEP_SETNS, error) < 0)
		return error;
	if (flags & JOIN_ATTEMPT) {
		sys1(__NR_close, fd);
		r->slots[slot] = SLOT_JOINED;
	}
	return at(r, STEP_PRCTL, watch_parent_death(r));
}

int op_unshare(struct run *r, struct cursor *c)
{
	return at(r, STEP_UNSHARE, sys1(__NR_unshare, take_u64(c)));
}

/*
 * fork "u": CLONE_NEW* flags. The child is a child of our parent, and goes on; we hand over its pid and end.
 * It waits for GO, so that the parent knows it before it says anything else.
 */
int op_fork(struct run *r, struct cursor *c)
{
	int pidfd = -1;
	struct k_clone_args args = { .flags = take_u64(c) | CLONE_PARENT | CLONE_PIDFD,
				     .pidfd = (uint64_t)(uintptr_t)&pidfd };
	int pid = sys2(NR_CLONE3, &args, sizeof(args));

	if (pid < 0)
		return at(r, STEP_CLONE, pid);
	if (pid > 0) {
		send_at(r, pid, pidfd);
		leave(0);
	}
	watch_parent_death(r);
	return receive_go(r);
}

/*
 * become_root "u": USER_KEEP_GROUPS if setgroups is denied here, USER_KEEP_IF_DENIED if it may be: the namespace is one
 * of others, in which we have all capabilities, so that nothing else can be the reason. Its ids are mapped; take them.
 */
int op_become_root(struct run *r, struct cursor *c)
{
	uint64_t bits = take_u64(c);
	int error = 0;

	if (!(bits & USER_KEEP_GROUPS))
		error = at(r, STEP_SETGROUPS, sys2(__NR_setgroups, 0, NULL));
	if (error == -EPERM && bits & USER_KEEP_IF_DENIED) {
		r->groups_denied = 1;
		error = 0;
	}
	if (!error)
		error = at(r, STEP_SETGID, sys3(__NR_setresgid, 0, 0, 0));
	if (!error)
		error = at(r, STEP_SETUID, sys3(__NR_setresuid, 0, 0, 0));
	if (!error)
		error = at(r, STEP_PRCTL, watch_parent_death(r));
	return error;
}

/* oom_score_adj "s": must come while the process is dumpable, else its file belongs to root. */
int op_oom_score_adj(struct run *r, struct cursor *c)
{
	const char *value = take_str(c);
	auto_fd fd =
		at(r, STEP_OPEN,
		   sys4(__NR_openat, -100, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0));
	int written;

	if (fd < 0)
		return fd;
	written = at(r, STEP_WRITE, sys3(__NR_write, fd, value, text_length(value)));
	return written < 0 ? written : 0;
}

/* From here on nothing in a namespace that we join or share can trace us or look into our descriptors (CVE-2016-9962). */
int op_undumpable(struct run *r, struct cursor *c)
{
	(void)c;
	r->undumpable = 1;
	return at(r, STEP_PRCTL, watch_parent_death(r));
}

int op_session(struct run *r, struct cursor *c)
{
	int error;

	(void)c;
	error = sys0(__NR_setsid);
	return error == -EPERM
		       ? 0
		       : at(r, STEP_SETSID, error < 0 ? error : 0); /* EPERM: a leader already */
}

/* keyring "s": its name. A kernel without keyrings (ENOSYS), or a profile that hides them, is no failure. */
int op_keyring(struct run *r, struct cursor *c)
{
	int ring = sys2(__NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, take_str(c));

	if (ring == -ENOSYS || ring == -EPERM)
		return 0;
	if (ring == -EDQUOT || ring == -ENOKEY || ring == -EACCES) {
		warn(r, ring, STEP_KEYCTL);
		return 0;
	}
	if (ring < 0)
		return at(r, STEP_KEYCTL, ring);
	/* A process that takes the ring over later must be able to search it: possessor and owner get everything. */
	sys3(__NR_keyctl, KEYCTL_SETPERM, ring, POSSESSOR_ALL | 0x001f0000L);
	return 0;
}

/*
 * join_cgroup "nu": slots of cgroup v1 "tasks" files, bits. We write our own thread, "0": the kernel moves it without the
 * lock over all processes that moving another one takes, and so without waiting for an RCU grace period (14 ms seen).
 */
int op_join_cgroup(struct run *r, struct cursor *c)
{
	const uint64_t *slots = take_list(c);
	uint64_t bits = take_u64(c);

	for (uint64_t i = 1; i <= slots[0]; i++) {
		int fd = slot_fd(r, slots[i]);
		int error = fd < 0 ? fd : sys3(__NR_write, fd, "0", 1);

		if (error < 0 && !(bits & CGROUP_OPTIONAL))
			return at(r, STEP_WRITE, error);
	}
	return 0;
}

int op_loopback(struct run *r, struct cursor *c)
{
	struct ifreq request = { .ifr_ifrn.ifrn_name = "lo" };
	auto_fd fd = at(r, STEP_SOCKET,
			sys3(__NR_socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */ | O_CLOEXEC, 0));

	(void)c;
	if (fd == -EAFNOSUPPORT)
		return 0;
	if (fd < 0)
		return fd;
	request.ifr_ifru.ifru_flags = IFF_UP;
	return at(r, STEP_IOCTL, sys3(__NR_ioctl, fd, SIOCSIFFLAGS, &request));
}

int op_hostname(struct run *r, struct cursor *c)
{
	const char *name = take_str(c);

	return at(r, STEP_SETHOSTNAME, sys2(__NR_sethostname, name, text_length(name)));
}

int op_domainname(struct run *r, struct cursor *c)
{
	const char *name = take_str(c);

	return at(r, STEP_SETDOMAINNAME, sys2(__NR_setdomainname, name, text_length(name)));
}
