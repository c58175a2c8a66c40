/* op_terminal.c - the pseudo terminal of the container's process, made in the container's own devpts. */

#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <asm/termios.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/stat.h>

#include "run.h"

#define MULTIPLEXER 0x502 /* 5:2 */
#define FIRST_SLAVE_MAJOR 136
#define SLAVE_MAJORS 8
#define TERMINAL_FLAGS (O_RDWR | O_NOCTTY | O_CLOEXEC)

/* Whether this is a device of a real devpts: nobody but the kernel makes a file there (CVE-2025-52565). */
static int is_device_of_devpts(int fd, struct stat *about)
{
	struct statfs type;

	return !sys2(__NR_fstatfs, fd, &type) && type.f_type == DEVPTS_SUPER_MAGIC &&
	       !sys2(__NR_fstat, fd, about) && (about->st_mode & S_IFMT) == S_IFCHR;
}

/*
 * Opens pts/ptmx: it is that of this devpts whatever /dev/ptmx is. The directory is looked at before anything in it is
 * opened: an image cannot make us wait on a FIFO, or open a device of its own.
 */
static int open_multiplexer(struct run *r)
{
	auto_fd pts = at(r, STEP_OPEN,
			 open_in_root(r, "/dev/pts", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS));
	auto_fd master = -1;
	struct statfs type;
	struct stat about;

	if (pts < 0)
		return pts;
	if (sys2(__NR_fstatfs, pts, &type) || type.f_type != DEVPTS_SUPER_MAGIC)
		return at(r, STEP_VERIFY, -ENODEV);
	master = at(r, STEP_OPEN,
		    openat2(pts, "ptmx", TERMINAL_FLAGS, 0,
			    RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS));
	if (master < 0)
		return master;
	if (!is_device_of_devpts(master, &about) || about.st_rdev != MULTIPLEXER)
		return at(r, STEP_VERIFY, -ENODEV);
	return keep_fd(&master);
}

/* The other side of `master`, by no path at all, and really that. */
static int open_slave(struct run *r, int master)
{
	int unlocked = 0;
	unsigned int number = 0;
	unsigned int major;
	unsigned int minor;
	struct stat about;
	auto_fd slave = -1;
	int error = sys3(__NR_ioctl, master, TIOCSPTLCK, &unlocked);

	if (!error)
		error = sys3(__NR_ioctl, master, TIOCGPTN, &number);
	if (error)
		return at(r, STEP_IOCTL, error);
	slave = at(r, STEP_IOCTL, sys3(__NR_ioctl, master, TIOCGPTPEER, TERMINAL_FLAGS));
	if (slave < 0)
		return slave;
	if (!is_device_of_devpts(slave, &about))
		return at(r, STEP_VERIFY, -ENODEV);
	major = (unsigned int)(about.st_rdev >> 8) & 0xfff;
	minor = (unsigned int)(about.st_rdev & 0xff) |
		((unsigned int)(about.st_rdev >> 12) & ~0xffU);
	if (major < FIRST_SLAVE_MAJOR || major >= FIRST_SLAVE_MAJOR + SLAVE_MAJORS ||
	    minor != number)
		return at(r, STEP_VERIFY, -ENODEV);
	return keep_fd(&slave);
}

static int set_size(struct run *r, int master, uint64_t rows, uint64_t columns)
{
	struct winsize size = { (unsigned short)rows, (unsigned short)columns, 0, 0 };

	if (!rows && !columns)
		return 0;
	return at(r, STEP_IOCTL, sys3(__NR_ioctl, master, TIOCSWINSZ, &size));
}

/* 0, 1 and 2 are the terminal, and it controls our session. */
static int take_terminal(struct run *r, int slave)
{
	int error = 0;

	for (int fd = 0; fd <= 2 && error >= 0; fd++)
		error = sys3(__NR_dup3, slave, fd, 0);
	return at(r, STEP_IOCTL, error < 0 ? error : sys3(__NR_ioctl, 0, TIOCSCTTY, 0));
}

/*
 * terminal "uuu": rows, columns (0 and 0: the kernel's choice), bits. The parent gets the master, and nobody else.
 * It comes after session: only a session leader can have a controlling terminal.
 */
int op_terminal(struct run *r, struct cursor *c)
{
	uint64_t rows = take_u64(c);
	uint64_t columns = take_u64(c);
	uint64_t bits = take_u64(c);
	auto_fd master = open_multiplexer(r);
	auto_fd slave = -1;
	int error;

	if (master < 0)
		return master;
	slave = open_slave(r, master);
	if (slave < 0)
		return slave;
	error = set_size(r, master, rows, columns);
	if (!error && bits & TERMINAL_IS_CONSOLE)
		error = cover_file(r, slave, "/dev/console");
	if (!error)
		error = take_terminal(r, slave);
	if (!error)
		error = send_at(r, 0, master);
	return error ? error : receive_go(r);
}
