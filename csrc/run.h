/* run.h - one run of a plan: its state, and what the operations share. */
#ifndef PYOCIRUN_RUN_H
#define PYOCIRUN_RUN_H

#include <errno.h>

#include "plan.h"
#include "sys.h"

#define MAX_SLOTS 4096
#define HOME_BYTES 4096
#define MESSAGE_BYTES 3072 /* below PIPE_BUF: a message through the report FIFO is never torn */

struct stat;

enum message_kind { MESSAGE_AT = 1, MESSAGE_GO, MESSAGE_WARN, MESSAGE_FAILED };

struct message {
	uint32_t kind;
	uint32_t index; /* of the operation in the plan */
	int32_t error;  /* errno, positive */
	uint32_t step;
	int64_t value;   /* AT of a fork: pid.  FAILED of a hook: its wait status */
	uint64_t length; /* of the payload */
	char payload[MESSAGE_BYTES];
};

#define MESSAGE_HEADER offsetof(struct message, payload)

struct run {
	struct plan plan;
	const struct plan_op *op;
	int socket; /* to the parent, until the gate; -1 afterwards */
	int report; /* the report FIFO, from the gate on; else -1 */
	int gate;
	int root;    /* the container's root directory */
	int null;    /* verified /dev/null of the container, for masks; -1: not opened yet */
	int proc;    /* a procfs of our own, for the labels of security modules; -1: not wanted */
	int ruleset; /* of Landlock, -1: none */
	int covered; /* an empty read-only directory, mounted as the first mask of one; -1: none yet */
	int tree; /* a file system to be filled before it is attached, and where: sync hands both to the parent */
	int place;
	int made;    /* make_path() made the last part of the path itself */
	int in_cwd;  /* the directory of the process was entered before the change of user */
	int refused; /* the last mount was, by the kernel: the bind that follows stands in for it */
	int first_fd; /* of those that belong to nsexec and not to the container */
	int undumpable;
	int groups_denied; /* setgroups(2), in a user namespace that was joined */
	int umask;         /* for hooks: the caller's, until the container's is set */
	enum step step;
	int64_t value;      /* goes out with FAILED */
	size_t tail_length; /* likewise: the end of a hook's output */
	uint32_t slot_count;
	int slots[MAX_SLOTS];
	uint64_t *stamps;
	int state_fd;           /* state JSON for hooks; -1: none came */
	int agent;              /* connection to the seccomp agent, -1: none */
	int agent_state;        /* what it is told of this process, as JSON */
	const char *executable; /* what RESOLVE found */
	char executable_path[PATH_MAX_BYTES];
	int home_asked;        /* and the answer has not been taken yet */
	uint32_t home_index;   /* of the operation that asked */
	char home[HOME_BYTES]; /* "HOME=...", or "" */
	struct message message;
};

/* The fields of one operation, in the order of its signature. */
struct cursor {
	const uint64_t *word;
};

static inline uint64_t take_u64(struct cursor *c)
{
	return *c->word++;
}

static inline const char *take_str(struct cursor *c)
{
	return (const char *)(uintptr_t)*c->word++;
}

/* A list: its first word is the count. */
static inline const uint64_t *take_list(struct cursor *c)
{
	return (const uint64_t *)(uintptr_t)*c->word++;
}

/* Remembers which part of an operation failed: the caller returns `result`. */
static inline int at(struct run *r, enum step step, int result)
{
	if (result < 0)
		r->step = step;
	return result;
}

/* msg.c */
int send_at(struct run *r, int64_t value, int fd);
int receive_go(struct run *r);
int receive_home(struct run *r);
int wait_at_gate(struct run *r);
void warn(struct run *r, int error, enum step step);
_Noreturn void fail(struct run *r, uint32_t index, int error);
_Noreturn void leave(int status);

/* path.c */
int openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int open_in_root(const struct run *r, const char *path, uint64_t flags, uint64_t resolve);
int make_path(struct run *r, const char *path, uint64_t resolve, int file);
int make_directory(struct run *r, const char *path, uint64_t resolve);
int make_parent(struct run *r, const char *path, uint64_t resolve);
const char *last_component(const char *path);
int is_directory(const struct stat *about);

/* op_mount.c */
#define TREE_FLAGS (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
#define TO_DESCRIPTOR (MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
int set_attributes(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int recursive);
int must_be_procfs(int fd);

/* op_mask.c */
int cover_file(struct run *r, int source, const char *path);
int open_null(struct run *r);
int is_null_device(int fd);

/* op_ns.c */
int forget_parent_death(void);
int watch_parent_death(const struct run *r);
int slot_fd(struct run *r, uint64_t slot);

/* op_exec.c */
int serves_later_hook(const struct run *r, uint32_t slot);

/* op_seccomp.c */
int filter_hook(struct run *r);

/* op_process.c */
int raise_capability(unsigned int number);

#define OP(code, name, signature) int op_##name(struct run *r, struct cursor *c);
PLAN_OPS(OP)
#undef OP

#endif
