/* The floor: what the kernel alone asks for one container.
 *
 * No configuration, no state, no checks: one process clones the namespaces of
 * runc's default config, makes the mounts of that config, pivots, masks, drops
 * what has to be dropped, executes a program and reaps it. A runtime that does
 * the same work cannot be faster than this.
 *
 *   floor [-n COUNT] [-p PROCESSES] [-c PREFIX] [-m] [-t] ROOTFS PROGRAM
 *   floor -x PROGRAM [ARGUMENT...]
 *
 *   -n  containers, one after the other (1); with -p for all processes together
 *   -p  processes that make them side by side (1)
 *   -c  a cgroup for each in every v1 hierarchy, its name begun by PREFIX: mkdir,
 *       device rules, join, rmdir
 *   -m  mount these cgroups at /sys/fs/cgroup inside, as "type": "cgroup" asks
 *   -t  print every single time besides
 *   -x  only start PROGRAM from this small process and wait for it. A process
 *       begins with the peak memory of the one that started it, so a peak can
 *       only be taken from a small parent.
 *
 * Prints one JSON object. ROOTFS needs the directories dev, proc and sys.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <mntent.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS)
#define MAX_HIERARCHIES 16
#define STACK_SIZE (64 * 1024)

static const char *rootfs, *program;
static const char *cgroup_prefix;
static bool with_cgroups, with_cgroup_mount, with_times;
static char hierarchies[MAX_HIERARCHIES][128];
static int hierarchy_count;
static char cgroup_name[64];

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void must(long result, const char *what)
{
	if (result < 0)
		die(what);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- cgroups ---- */

static void find_hierarchies(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct mntent *entry;

	if (!mounts)
		die("/proc/self/mounts");
	while ((entry = getmntent(mounts)) && hierarchy_count < MAX_HIERARCHIES)
		if (!strcmp(entry->mnt_type, "cgroup"))
			snprintf(hierarchies[hierarchy_count++], sizeof hierarchies[0], "%s",
				 entry->mnt_dir);
	endmntent(mounts);
}

static const char *join_path(char path[512], const char *dir, const char *name)
{
	if (snprintf(path, 512, "%s/%s", dir, name) >= 512) {
		errno = ENAMETOOLONG;
		die(dir);
	}
	return path;
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[512];
	int fd;

	fd = open(join_path(path, dir, name), O_WRONLY | O_CLOEXEC);
	must(fd, path);
	must(write(fd, text, strlen(text)), path);
	close(fd);
}

static void copy_file(const char *from, const char *to, const char *name)
{
	char path[512], text[256];
	ssize_t length;
	int fd;

	fd = open(join_path(path, from, name), O_RDONLY | O_CLOEXEC);
	must(fd, path);
	length = read(fd, text, sizeof text - 1);
	must(length, path);
	close(fd);
	text[length] = 0;
	write_file(to, name, text);
}

static const char *base_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

static const char *const device_rules[] = {
	"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",
	"c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm",
};

static void make_cgroups(void)
{
	char path[512];

	for (int i = 0; i < hierarchy_count; i++) {
		join_path(path, hierarchies[i], cgroup_name);
		must(mkdir(path, 0755), path);
		if (strstr(base_name(hierarchies[i]), "cpuset")) {
			copy_file(hierarchies[i], path, "cpuset.cpus");
			copy_file(hierarchies[i], path, "cpuset.mems");
		}
		if (!strcmp(base_name(hierarchies[i]), "devices")) {
			write_file(path, "devices.deny", "a");
			for (size_t k = 0; k < sizeof device_rules / sizeof *device_rules; k++)
				write_file(path, "devices.allow", device_rules[k]);
		}
	}
}

static void join_cgroups(void)
{
	char path[512];

	for (int i = 0; i < hierarchy_count; i++) {
		join_path(path, hierarchies[i], cgroup_name);
		write_file(path, "cgroup.procs", "0");
	}
}

static void remove_cgroups(void)
{
	char path[512];

	for (int i = 0; i < hierarchy_count; i++) {
		join_path(path, hierarchies[i], cgroup_name);
		while (rmdir(path) < 0) {
			if (errno != EBUSY)
				die(path);
			usleep(50);
		}
	}
}

/* ---- the root file system; the working directory is the rootfs ---- */

static void mount_cgroups(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	char from[512], to[512];

	must(mount("tmpfs", "sys/fs/cgroup", "tmpfs", flags, "mode=755"), "tmpfs for cgroups");
	for (int i = 0; i < hierarchy_count; i++) {
		join_path(from, hierarchies[i], with_cgroups ? cgroup_name : "");
		join_path(to, "sys/fs/cgroup", base_name(hierarchies[i]));
		must(mkdir(to, 0755), to);
		must(mount(from, to, NULL, MS_BIND, NULL), to);
		must(mount(NULL, to, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, NULL), to);
	}
	must(mount(NULL, "sys/fs/cgroup", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, NULL),
	     "read-only cgroups");
}

static void mount_all(void)
{
	const unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	must(mount("proc", "proc", "proc", 0, NULL), "proc");
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"),
	     "dev");
	must(mkdir("dev/pts", 0755), "dev/pts");
	must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		   "newinstance,ptmxmode=0666,mode=0620,gid=5"),
	     "devpts");
	must(mkdir("dev/shm", 0755), "dev/shm");
	must(mount("shm", "dev/shm", "tmpfs", safe, "mode=1777,size=65536k"), "shm");
	must(mkdir("dev/mqueue", 0755), "dev/mqueue");
	must(mount("mqueue", "dev/mqueue", "mqueue", safe, NULL), "mqueue");
	must(mount("sysfs", "sys", "sysfs", safe | MS_RDONLY, NULL), "sysfs");
	if (with_cgroup_mount)
		mount_cgroups();
}

static void make_devices(void)
{
	static const struct {
		const char *path;
		unsigned int minor, major;
	} nodes[] = {
		{ "dev/null", 3, 1 },   { "dev/zero", 5, 1 },    { "dev/full", 7, 1 },
		{ "dev/random", 8, 1 }, { "dev/urandom", 9, 1 }, { "dev/tty", 0, 5 },
	};

	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
		must(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)),
		     nodes[i].path);
	must(symlink("pts/ptmx", "dev/ptmx"), "ptmx");
	must(symlink("/proc/self/fd", "dev/fd"), "fd");
	must(symlink("/proc/self/fd/0", "dev/stdin"), "stdin");
	must(symlink("/proc/self/fd/1", "dev/stdout"), "stdout");
	must(symlink("/proc/self/fd/2", "dev/stderr"), "stderr");
	must(symlink("/proc/kcore", "dev/core"), "core");
}

static void pivot(void)
{
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "umount of the old root");
	must(chdir("/"), "chdir");
	must(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), "read-only root");
}

/* A path that this kernel does not have needs no cover. */
static void cover_paths(void)
{
	static const char *const readonly[] = {
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	};
	static const char *const masked[] = {
		"/proc/acpi",          "/proc/asound",     "/proc/kcore",       "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/sys/firmware",       "/proc/scsi",
	};

	for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++) {
		if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) < 0) {
			if (errno == ENOENT)
				continue;
			die(readonly[i]);
		}
		must(mount(NULL, readonly[i], NULL,
			   MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			   NULL),
		     readonly[i]);
	}
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
		if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) == 0 || errno == ENOENT)
			continue;
		if (errno != ENOTDIR)
			die(masked[i]);
		must(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"),
		     masked[i]);
	}
}

/* ---- the process ---- */

static void raise_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	must(fd, "socket");
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	must(ioctl(fd, SIOCSIFFLAGS, &request), "loopback");
	close(fd);
}

static void drop_privileges(void)
{
	const uint32_t keep = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[2] = { { keep, keep, 0 }, { 0, 0, 0 } };
	struct rlimit files = { 1024, 1024 };

	must(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (cap > 31 || !(keep & 1u << cap))
			if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
				die("bounding set");
	must(syscall(SYS_capset, &header, sets), "capset");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static int container(void *unused)
{
	char *argv[] = { (char *)program, NULL };
	char *envp[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL };

	(void)unused;
	if (with_cgroups)
		join_cgroups();
	raise_loopback();
	must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "propagation");
	must(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL), "bind of the rootfs");
	must(chdir(rootfs), rootfs);
	mount_all();
	make_devices();
	pivot();
	cover_paths();
	must(sethostname("floor", 5), "sethostname");
	drop_privileges();
	execve(program, argv, envp);
	die(program);
	return 1;
}

/* One container from nothing to nothing. Like a good spawner it borrows its
 * parent's memory until execve instead of copying page tables. */
static void one(char *stack, long index)
{
	pid_t pid;
	int status;

	if (with_cgroups) {
		snprintf(cgroup_name, sizeof cgroup_name, "%.40s%d-%ld", cgroup_prefix, getpid(),
			 index);
		make_cgroups();
	}
	pid = clone(container, stack + STACK_SIZE, NAMESPACES | CLONE_VM | CLONE_VFORK | SIGCHLD,
		    NULL);
	must(pid, "clone");
	must(waitpid(pid, &status, 0), "waitpid");
	if (with_cgroups)
		remove_cgroups();
	if (status) {
		fprintf(stderr, "floor: wait status %#x\n", (unsigned int)status);
		_exit(1);
	}
}

static void loop(long count, uint64_t *times)
{
	char *stack =
		mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		die("mmap");
	for (long i = 0; i < count; i++) {
		uint64_t start = now_ns();

		one(stack, i);
		times[i] = now_ns() - start;
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int measure(long count, long processes)
{
	long share = (count + processes - 1) / processes;
	long total = share * processes;
	uint64_t *times = mmap(NULL, (size_t)total * sizeof *times, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t start = now_ns(), wall;
	int status, failed = 0;

	if (times == MAP_FAILED)
		die("mmap");
	if (processes == 1) {
		loop(total, times);
	} else {
		for (long i = 0; i < processes; i++) {
			pid_t pid = fork();

			must(pid, "fork");
			if (!pid) {
				prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
				loop(share, times + i * share);
				_exit(0);
			}
		}
		while (wait(&status) > 0)
			failed |= status;
	}
	wall = now_ns() - start;
	if (failed)
		return 1;
	qsort(times, (size_t)total, sizeof *times, compare);
	printf("{\"count\": %ld, \"processes\": %ld, \"median_us\": %.1f, \"min_us\": %.1f, "
	       "\"p10_us\": %.1f, \"p90_us\": %.1f, \"per_second\": %.1f",
	       total, processes, (double)times[total / 2] / 1e3, (double)times[0] / 1e3,
	       (double)times[total / 10] / 1e3, (double)times[total * 9 / 10] / 1e3,
	       (double)total / ((double)wall / 1e9));
	for (long i = 0; with_times && i < total; i++)
		printf("%s%.1f", i ? ", " : ", \"times_us\": [", (double)times[i] / 1e3);
	puts(with_times ? "]}" : "}");
	return 0;
}

static int start_other(char **argv)
{
	uint64_t start = now_ns();
	struct rusage usage;
	pid_t pid = fork();
	int status;

	must(pid, "fork");
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		close(null);
		execvp(argv[0], argv);
		die(argv[0]);
	}
	must(wait4(pid, &status, 0, &usage), "wait4");
	printf("{\"status\": %d, \"us\": %.1f, \"peak_kib\": %ld}\n",
	       WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
	       (double)(now_ns() - start) / 1e3, usage.ru_maxrss);
	return 0;
}

int main(int argc, char **argv)
{
	long count = 1, processes = 1;
	int option;

	while ((option = getopt(argc, argv, "+n:p:c:mtx")) != -1) {
		switch (option) {
		case 'n':
			count = atol(optarg);
			break;
		case 'p':
			processes = atol(optarg);
			break;
		case 'c':
			with_cgroups = true, cgroup_prefix = optarg;
			break;
		case 'm':
			with_cgroup_mount = true;
			break;
		case 't':
			with_times = true;
			break;
		case 'x':
			return optind < argc ? start_other(argv + optind) : 2;
		default:
			return 2;
		}
	}
	if (argc - optind != 2 || count < 1 || processes < 1) {
		fprintf(stderr, "usage: floor [-n COUNT] [-p PROCESSES] [-c PREFIX] [-m] [-t] "
				"ROOTFS PROGRAM\n"
				"       floor -x PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	rootfs = argv[optind];
	program = argv[optind + 1];
	find_hierarchies();
	return measure(count, processes);
}
