// SPDX-License-Identifier: Apache-2.0
/*
 * probe: a static program that tells what a container looks like from inside.
 *
 *	probe			the whole report, as one JSON object (also: probe report ...)
 *	probe human [stay]	the same facts, as a short page for a person
 *	probe MODE [ARGS]	one small act, see the table at the end of this file
 *
 * It reads with plain system calls where it can, so that most of the report is
 * there even without /proc.  Acts that may fail print "ok" or the name of the
 * error ("EPERM"), and exit 0 or 1.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

extern char **environ;

/* ---- JSON, written as it goes ------------------------------------------ */

static int comma; /* a comma is due before the next member */

static void text(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			printf("\\u%04x", c); /* bytes above 0x7f arrive as Latin-1 */
		else
			putchar(c);
	}
	putchar('"');
}

static void next(const char *key)
{
	if (comma)
		putchar(',');
	comma = 1;
	if (key) {
		text(key);
		putchar(':');
	}
}

static void begin(const char *key, char bracket)
{
	next(key);
	putchar(bracket);
	comma = 0;
}

static void end(char bracket)
{
	putchar(bracket);
	comma = 1;
}

static void put_text(const char *key, const char *value)
{
	next(key);
	if (value)
		text(value);
	else
		printf("null");
}

static void put_number(const char *key, long long value)
{
	next(key);
	printf("%lld", value);
}

/* ---- facts --------------------------------------------------------------- */

/* The file's text without its last newline in a static buffer, or NULL. */
static const char *file_text(const char *path)
{
	static char buf[64 * 1024];
	ssize_t n, len = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	while ((n = read(fd, buf + len, sizeof(buf) - 1 - (size_t)len)) > 0)
		len += n;
	close(fd);
	while (len > 0 && buf[len - 1] == '\n')
		len--;
	buf[len] = 0;
	return buf;
}

static const char *link_text(const char *path)
{
	static char buf[PATH_MAX + 1];
	ssize_t n = readlink(path, buf, PATH_MAX);

	if (n < 0)
		return NULL;
	buf[n] = 0;
	return buf;
}

static const struct {
	const char *name;
	int number;
} limit_names[] = {
	{ "RLIMIT_AS", RLIMIT_AS },           { "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_CPU", RLIMIT_CPU },         { "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },     { "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK }, { "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "RLIMIT_NICE", RLIMIT_NICE },       { "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },     { "RLIMIT_RSS", RLIMIT_RSS },
	{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },   { "RLIMIT_RTTIME", RLIMIT_RTTIME },
	{ "RLIMIT_STACK", RLIMIT_STACK },     { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
};

static const char *const namespace_names[] = { "cgroup", "ipc",  "mnt",  "net",
					       "pid",    "time", "user", "uts" };

/* The files in which a container can see its limits: cgroup v1, then v2. */
static const char *const limit_files[] = {
	"memory/memory.limit_in_bytes",
	"pids/pids.max",
	"cpu/cpu.shares",
	"cpu/cpu.cfs_quota_us",
	"cpu/cpu.cfs_period_us",
	"cpuset/cpuset.cpus",
	"memory.max",
	"memory.high",
	"pids.max",
	"cpu.max",
	"cpu.weight",
	"cpuset.cpus.effective",
};

struct capsets {
	uint64_t inheritable, permitted, effective, bounding, ambient;
};

static struct capsets read_capsets(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	struct capsets s = { 0 };
	int cap;

	if (syscall(SYS_capget, &head, data) == 0) {
		s.inheritable = (uint64_t)data[1].inheritable << 32 | data[0].inheritable;
		s.permitted = (uint64_t)data[1].permitted << 32 | data[0].permitted;
		s.effective = (uint64_t)data[1].effective << 32 | data[0].effective;
	}
	for (cap = 0; cap < 64; cap++) {
		if (prctl(PR_CAPBSET_READ, cap) == 1)
			s.bounding |= 1ULL << cap;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
			s.ambient |= 1ULL << cap;
	}
	return s;
}

/* The value of a line "Key:\tvalue" of /proc/self/status, or -1. */
static long status_number(const char *key)
{
	const char *found, *all = file_text("/proc/self/status");

	if (!all || !(found = strstr(all, key)))
		return -1;
	return strtol(found + strlen(key), NULL, 10);
}

/* How the session keyring is called, or NULL where there is none. */
static const char *keyring_name(void)
{
	static char buf[256];
	long n = syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, buf,
			 sizeof(buf) - 1);
	char *name;

	if (n <= 0 || n >= (long)sizeof(buf))
		return NULL;
	buf[n] = 0;
	name = strrchr(buf, ';');
	return name ? name + 1 : NULL;
}

static int mask_of_files(void)
{
	mode_t old = umask(0);

	umask(old);
	return (int)old;
}

/* ---- the report ----------------------------------------------------------- */

static void put_hex(const char *key, uint64_t value)
{
	char buf[20];

	snprintf(buf, sizeof(buf), "%016llx", (unsigned long long)value);
	put_text(key, buf);
}

static void put_lines(const char *key, const char *path)
{
	char line[8192];
	FILE *f = fopen(path, "re");

	begin(key, '[');
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		put_text(NULL, line);
	}
	if (f)
		fclose(f);
	end(']');
}

static char type_letter(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	default:
		return 'f';
	}
}

static void put_stat(const char *key, const char *path)
{
	struct stat st;
	char type[2] = { 0 };

	if (lstat(path, &st) < 0)
		return;
	begin(key, '{');
	type[0] = type_letter(st.st_mode);
	put_text("type", type);
	put_number("mode", st.st_mode & 07777);
	put_number("uid", st.st_uid);
	put_number("gid", st.st_gid);
	if (*type == 'c' || *type == 'b') {
		put_number("major", major(st.st_rdev));
		put_number("minor", minor(st.st_rdev));
	}
	if (*type == 'f')
		put_number("size", st.st_size);
	if (*type == 'l')
		put_text("target", link_text(path));
	end('}');
}

static void put_directory(const char *key, const char *dir)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *d = opendir(dir);

	begin(key, '{');
	while (d && (entry = readdir(d))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		put_stat(entry->d_name, path);
	}
	if (d)
		closedir(d);
	end('}');
}

static void put_descriptors(void)
{
	char path[64], name[16];
	int fd;

	begin("descriptors", '{');
	for (fd = 0; fd < 1024; fd++) { /* /proc/self/fd would list the listing too */
		if (fcntl(fd, F_GETFD) < 0)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		snprintf(name, sizeof(name), "%d", fd);
		put_text(name, link_text(path));
	}
	end('}');
}

static void put_user(void)
{
	gid_t groups[1024];
	int i, n = getgroups(COUNT(groups), groups);

	put_number("uid", getuid());
	put_number("euid", geteuid());
	put_number("gid", getgid());
	put_number("egid", getegid());
	begin("groups", '[');
	for (i = 0; i < n; i++)
		put_number(NULL, groups[i]);
	end(']');
}

static void put_signals(void)
{
	struct sigaction action;
	sigset_t blocked;
	int sig;

	sigprocmask(SIG_SETMASK, NULL, &blocked);
	begin("signals", '{');
	begin("blocked", '[');
	for (sig = 1; sig <= 64; sig++)
		if (sigismember(&blocked, sig) == 1)
			put_number(NULL, sig);
	end(']');
	begin("ignored", '[');
	for (sig = 1; sig <= 64; sig++)
		if (sigaction(sig, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			put_number(NULL, sig);
	end(']');
	end('}');
}

static void put_namespaces(void)
{
	char path[64];
	struct stat st;
	size_t i;

	begin("namespaces", '{');
	for (i = 0; i < COUNT(namespace_names); i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", namespace_names[i]);
		if (stat(path, &st) == 0)
			put_number(namespace_names[i], (long long)st.st_ino);
	}
	end('}');
}

static void put_rlimits(void)
{
	struct rlimit limit;
	size_t i;

	begin("rlimits", '{');
	for (i = 0; i < COUNT(limit_names); i++) {
		if (getrlimit((int)limit_names[i].number, &limit) < 0)
			continue;
		begin(limit_names[i].name, '[');
		put_number(NULL, limit.rlim_cur == RLIM_INFINITY ? -1 : (long long)limit.rlim_cur);
		put_number(NULL, limit.rlim_max == RLIM_INFINITY ? -1 : (long long)limit.rlim_max);
		end(']');
	}
	end('}');
}

static void put_limits(void)
{
	char path[128];
	const char *value;
	size_t i;

	begin("limits", '{');
	for (i = 0; i < COUNT(limit_files); i++) {
		snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", limit_files[i]);
		value = file_text(path);
		if (value)
			put_text(limit_files[i], value);
	}
	end('}');
}

static void put_capabilities(void)
{
	struct capsets s = read_capsets();

	begin("capabilities", '{');
	put_hex("inheritable", s.inheritable);
	put_hex("permitted", s.permitted);
	put_hex("effective", s.effective);
	put_hex("bounding", s.bounding);
	put_hex("ambient", s.ambient);
	end('}');
}

/* The kernel's struct sched_attr; the C library may have one of its own. */
struct schedule {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime;
	uint64_t deadline;
	uint64_t period;
	uint32_t util_min;
	uint32_t util_max;
};

static void put_scheduling(void)
{
	struct schedule now = { .size = sizeof(now) };
	unsigned long nodes[16] = { 0 }; /* of 1024 nodes */
	char cpus[8192 * 5];
	cpu_set_t set;
	int mode = -1;
	size_t used = 0;

	begin("scheduler", '{');
	if (syscall(SYS_sched_getattr, 0, &now, sizeof(now), 0) == 0) {
		put_number("policy", now.policy);
		put_number("flags", (long long)now.flags);
		put_number("nice", now.nice);
		put_number("priority", now.priority);
		put_number("runtime", (long long)now.runtime);
		put_number("deadline", (long long)now.deadline);
		put_number("period", (long long)now.period);
	}
	end('}');
	put_number("io_priority", syscall(SYS_ioprio_get, 1 /* of a process */, 0));
	cpus[0] = 0;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
			if (CPU_ISSET(cpu, &set))
				used += (size_t)snprintf(cpus + used, sizeof(cpus) - used, "%s%d",
							 used ? "," : "", cpu);
	put_text("cpus", cpus);
	begin("memory_policy", '{');
	if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, NULL, 0) == 0) {
		put_number("mode", mode);
		put_number("nodes", (long long)nodes[0]);
	}
	end('}');
	put_text("label", file_text("/proc/self/attr/current"));
}

static void put_strings(const char *key, char **strings)
{
	begin(key, '[');
	for (; *strings; strings++)
		put_text(NULL, *strings);
	end(']');
}

static int mode_report(char **argv)
{
	struct utsname uts;
	char cwd[PATH_MAX];
	int pdeathsig = -1;

	/* First, for the report itself opens files. */
	begin(NULL, '{');
	put_descriptors();
	uname(&uts);
	prctl(PR_GET_PDEATHSIG, &pdeathsig);
	put_number("pid", getpid());
	put_number("ppid", getppid());
	put_number("sid", getsid(0));
	put_number("pgid", getpgid(0));
	put_user();
	put_number("umask", mask_of_files());
	/* The system call itself: the library's getcwd fails where the directory is unreachable. */
	put_text("cwd", syscall(SYS_getcwd, cwd, sizeof(cwd)) > 0 ? cwd : NULL);
	put_text("exe", link_text("/proc/self/exe"));
	put_strings("args", argv - 1);
	put_strings("env", environ);
	put_text("hostname", uts.nodename);
	put_text("domainname", uts.domainname);
	put_text("machine", uts.machine);
	put_namespaces();
	put_capabilities();
	put_number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	put_number("seccomp", status_number("Seccomp:"));
	put_number("dumpable", prctl(PR_GET_DUMPABLE));
	put_number("pdeathsig", pdeathsig);
	put_text("oom_score_adj", file_text("/proc/self/oom_score_adj"));
	put_text("keyring", keyring_name());
	put_rlimits();
	put_limits();
	put_scheduling();
	put_signals();
	put_lines("cgroup", "/proc/self/cgroup");
	put_lines("mounts", "/proc/self/mountinfo");
	put_directory("dev", "/dev");
	end('}');
	putchar('\n');
	return 0;
}

static void human_line(const char *name, const char *value)
{
	printf("  %-14s %s\n", name, value && *value ? value : "-");
}

static const char capability_names[] =
	"chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap "
	"linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner "
	"sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice "
	"sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap "
	"mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf "
	"checkpoint_restore ";

/* The names in the set, or, where that is most of them, those that are missing. */
static void human_capabilities(const char *name, uint64_t set)
{
	int most = __builtin_popcountll(set) > 20;
	char line[sizeof(capability_names) + 16];
	const char *word = capability_names, *space;
	uint64_t shown = most ? ~set : set;
	size_t len = 0;

	line[0] = 0;
	if (most)
		len = (size_t)sprintf(line, "all%s", ~set & ((1ULL << 41) - 1) ? " but" : "");
	for (; (space = strchr(word, ' ')); word = space + 1, shown >>= 1)
		if (shown & 1)
			len += (size_t)sprintf(line + len, "%s%.*s", len ? " " : "",
					       (int)(space - word), word);
	human_line(name, len ? line : "none");
}

static int mode_human(char **argv)
{
	struct capsets caps = read_capsets();
	struct utsname uts;
	struct rlimit files;
	char line[512], cwd[PATH_MAX], path[64];
	const char *value;
	size_t i;

	uname(&uts);
	printf("Inside the container\n");
	snprintf(line, sizeof(line), "%d (parent %d)", getpid(), getppid());
	human_line("pid", line);
	snprintf(line, sizeof(line), "uid %u, gid %u, umask %04o", getuid(), getgid(),
		 (unsigned)mask_of_files());
	human_line("user", line);
	human_line("hostname", uts.nodename);
	human_line("directory", syscall(SYS_getcwd, cwd, sizeof(cwd)) > 0 ? cwd : "?");
	human_capabilities("capabilities", caps.effective);
	human_capabilities("  bounded by", caps.bounding);
	human_line("new privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) ? "never" : "allowed");
	human_line("seccomp", status_number("Seccomp:") > 0 ? "filter" : "no filter");
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		snprintf(line, sizeof(line), "%llu (at most %llu)",
			 (unsigned long long)files.rlim_cur, (unsigned long long)files.rlim_max);
		human_line("open files", line);
	}
	printf("Namespaces\n");
	for (i = 0; i < COUNT(namespace_names); i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", namespace_names[i]);
		human_line(namespace_names[i], link_text(path));
	}
	printf("Limits it can see\n");
	for (i = 0; i < COUNT(limit_files); i++) {
		snprintf(line, sizeof(line), "/sys/fs/cgroup/%s", limit_files[i]);
		value = file_text(line);
		if (value) {
			const char *name = strrchr(limit_files[i], '/');

			printf("  %-24s %s\n", name ? name + 1 : limit_files[i], value);
		}
	}
	fflush(stdout);
	if (argv[1] && !strcmp(argv[1], "stay"))
		for (;;)
			pause();
	return 0;
}

/* ---- small acts ------------------------------------------------------------ */

static volatile sig_atomic_t caught;

static void catch_signal(int sig)
{
	caught = sig;
}

/* Prints "ok", or the error's name; the exit status to give. */
static int outcome(int failed)
{
	if (!failed) {
		puts("ok");
		return 0;
	}
#ifdef __GLIBC__
	puts(strerrorname_np(errno) ? strerrorname_np(errno) : "?");
#else
	puts(strerror(errno));
#endif
	return 1;
}

static int mode_exit(char **argv)
{
	return atoi(argv[1]);
}

static int mode_sleep(char **argv)
{
	struct timespec left = { .tv_sec = atoi(argv[1]) };

	puts("ready");
	fflush(stdout);
	/* pid 1 gets no signal that it has no handler for; the usual two should still end it. */
	signal(SIGTERM, _exit);
	signal(SIGINT, _exit);
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
	return 0;
}

/* lock FILE SECONDS: holds the lock of a file, which it makes. */
static int mode_lock(char **argv)
{
	int fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || flock(fd, LOCK_EX))
		return outcome(1);
	return mode_sleep(argv + 1);
}

static int mode_kill_self(char **argv)
{
	pid_t child = getpid() == 1 ? fork() : 0;
	int status;

	/* The kernel shields pid 1 from itself: a child dies in its place, and its end is passed on
	 * as the status that a shell would give. */
	if (child > 0) {
		waitpid(child, &status, 0);
		return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
	kill(getpid(), atoi(argv[1]));
	pause();
	return 1;
}

static int mode_cat(char **argv)
{
	char buf[4096];
	ssize_t n = 0;
	int fd;

	for (argv++; *argv; argv++) {
		fd = open(*argv, O_RDONLY);
		if (fd < 0)
			return outcome(1);
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			fwrite(buf, 1, (size_t)n, stdout);
		close(fd);
		if (n < 0)
			return outcome(1);
	}
	return 0;
}

static int mode_write(char **argv)
{
	int fd = open(argv[1], O_WRONLY | O_CREAT, 0644);

	return outcome(fd < 0 || write(fd, argv[2], strlen(argv[2])) < 0);
}

static int mode_open(char **argv)
{
	int flags = !strcmp(argv[1], "w") ? O_WRONLY : !strcmp(argv[1], "rw") ? O_RDWR : O_RDONLY;

	return outcome(open(argv[2], flags | O_NONBLOCK | O_NOCTTY) < 0);
}

static int mode_mkdir(char **argv)
{
	return outcome(mkdir(argv[1], 0755) < 0);
}

static int mode_mknod(char **argv)
{
	mode_t type = *argv[2] == 'b' ? S_IFBLK : S_IFCHR;

	return outcome(mknod(argv[1], type | 0666, makedev(atoi(argv[3]), atoi(argv[4]))) < 0);
}

static int mode_mount_tmpfs(char **argv)
{
	return outcome(mount("probe", argv[1], "tmpfs", 0, NULL) < 0);
}

static int mode_stat(char **argv)
{
	begin(NULL, '{');
	for (argv++; *argv; argv++)
		put_stat(*argv, *argv);
	end('}');
	putchar('\n');
	return 0;
}

static int mode_ls(char **argv)
{
	begin(NULL, '{');
	for (argv++; *argv; argv++)
		put_directory(*argv, *argv);
	end('}');
	putchar('\n');
	return 0;
}

static int mode_open_exe(char **argv)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", atoi(argv[1]));
	return outcome(open(path, O_WRONLY) < 0);
}

static int mode_spin(char **argv)
{
	volatile unsigned turns = 0;

	(void)argv;
	puts("ready");
	fflush(stdout);
	while (!caught)
		turns++;
	(void)turns;
	return 0;
}

/* notify TEXT SECONDS: writes TEXT to $NOTIFY_SOCKET ("@": an abstract one), prints "ok", stays for a while. */
static int mode_notify(char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error;

	socklen_t length = sizeof(address);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path ? path : "");
	if (address.sun_path[0] == '@') {
		length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
		address.sun_path[0] = 0;
	}
	error = outcome(
		sendto(fd, argv[1], strlen(argv[1]), 0, (struct sockaddr *)&address, length) < 0);
	fflush(stdout);
	sleep((unsigned)atoi(argv[2]));
	return error;
}

/* fork N: prints how many children could be made, then sleeps with them. */
static int mode_fork(char **argv)
{
	int i, wanted = atoi(argv[1]);
	pid_t pid;

	for (i = 0; i < wanted; i++) {
		pid = fork();
		if (pid < 0)
			break;
		if (pid == 0)
			for (;;)
				pause();
	}
	printf("%d\n", i);
	fflush(stdout);
	if (argv[2] && !strcmp(argv[2], "stay"))
		for (;;)
			pause();
	kill(0, SIGKILL);
	return 0;
}

/* alloc MIB: touches so much memory, then prints "ok". */
static int mode_alloc(char **argv)
{
	size_t i, size = (size_t)atoi(argv[1]) << 20;
	volatile char *memory = malloc(size);

	if (!memory)
		return outcome(1);
	for (i = 0; i < size; i += 4096)
		memory[i] = 1;
	return outcome(0);
}

/* trap: prints "ready", waits for any signal that can be caught, prints its number. */
static int mode_trap(char **argv)
{
	sigset_t all, none;
	int sig;

	(void)argv;
	sigfillset(&all);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (sig = 1; sig <= 64; sig++)
		signal(sig, catch_signal);
	puts("ready");
	fflush(stdout);
	while (!caught)
		sigsuspend(&none);
	printf("%d\n", (int)caught);
	return 0;
}

/* reopen FD: opens /proc/self/fd/FD for writing, as a shell does for "> /dev/stdout". */
static int mode_reopen(char **argv)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", atoi(argv[1]));
	return outcome(open(path, O_WRONLY) < 0);
}

/*
 * hunt SECONDS: what an attacker in the container would do while others are
 * executed into it.  Goes round all processes that do not run this program's
 * own file, and tries to trace them, to read their descriptors, and to write
 * to their executable (through the link, and later through a descriptor held
 * open); what it would write is the first byte that is there already.
 */
static int same_file(const char *path, const struct stat *own)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_dev == own->st_dev && st.st_ino == own->st_ino;
}

static int try_to_write(const char *path)
{
	char byte;
	int done, in = open(path, O_RDONLY | O_CLOEXEC), out = open(path, O_WRONLY | O_CLOEXEC);

	done = in >= 0 && out >= 0 && pread(in, &byte, 1, 0) == 1 && pwrite(out, &byte, 1, 0) == 1;
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return done;
}

static int trace(pid_t pid, const char *exe, const struct stat *own)
{
	int status, foreign;

	/* Not PTRACE_ATTACH: its SIGSTOP can outlive the detach when another stop comes first. */
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
		return 0;
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	waitpid(pid, &status, __WALL);
	foreign = WIFSTOPPED(status) && !same_file(exe, own); /* stopped: the answer holds */
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
	return foreign;
}

static int mode_hunt(char **argv)
{
	struct timespec now, start;
	int seen = 0, traced = 0, written = 0, listed = 0, held[64], held_count = 0, i;
	char path[64], exe[64];
	struct dirent *entry;
	struct stat own;
	pid_t pid;
	DIR *d;

	if (stat("/proc/self/exe", &own) < 0)
		return outcome(1);
	puts("ready");
	fflush(stdout);
	signal(SIGTERM, catch_signal);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		d = opendir("/proc");
		while (d && (entry = readdir(d))) {
			pid = atoi(entry->d_name);
			snprintf(exe, sizeof(exe), "/proc/%d/exe", pid);
			if (pid <= 0 || pid == getpid() || same_file(exe, &own))
				continue;
			seen++;
			written += try_to_write(exe);
			if (held_count < (int)COUNT(held)) {
				int fd = open(exe, O_RDONLY | O_CLOEXEC);
				struct stat st;

				if (fd >= 0 && fstat(fd, &st) == 0 && st.st_ino != own.st_ino)
					held[held_count++] = fd;
				else if (fd >= 0)
					close(fd);
			}
			snprintf(path, sizeof(path), "/proc/%d/fd/3", pid);
			listed += access(path, F_OK) == 0; /* this program has no descriptor 3 */
			traced += trace(pid, exe, &own);
		}
		if (d)
			closedir(d);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (!caught && now.tv_sec - start.tv_sec < atoi(argv[1]));
	for (i = 0; i < held_count; i++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", held[i]);
		written += try_to_write(path);
	}
	begin(NULL, '{');
	put_number("seen", seen);
	put_number("traced", traced);
	put_number("listed", listed);
	put_number("held", held_count);
	put_number("written", written);
	end('}');
	putchar('\n');
	return 0;
}

/* Any system call, with up to six numbers. */
static int mode_call(char **argv)
{
	unsigned long a[7] = { 0 };
	int i;

	for (i = 0; i < 7 && argv[1 + i]; i++)
		a[i] = strtoul(argv[1 + i], NULL, 0);
	return outcome(syscall((long)a[0], a[1], a[2], a[3], a[4], a[5], a[6]) < 0);
}

/* A system call of i386, with zeros. */
static int mode_call32(char **argv)
{
#ifdef __x86_64__
	int result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(atoi(argv[1])), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0)
			 : "memory");
	errno = result < 0 ? -result : 0;
	return outcome(result < 0);
#else
	(void)argv;
	errno = ENOSYS;
	return outcome(1);
#endif
}

/* All processes and threads that can be seen. */
static int mode_tasks(char **argv)
{
	DIR *processes = opendir("/proc"), *threads;
	struct dirent *process, *thread;
	char path[300];

	(void)argv;
	begin(NULL, '[');
	while (processes && (process = readdir(processes))) {
		snprintf(path, sizeof(path), "/proc/%s/task", process->d_name);
		threads = atoi(process->d_name) ? opendir(path) : NULL;
		while (threads && (thread = readdir(threads)))
			if (atoi(thread->d_name))
				put_number(NULL, atoi(thread->d_name));
		if (threads)
			closedir(threads);
	}
	end(']');
	putchar('\n');
	return 0;
}

static const struct {
	const char *name;
	int args; /* at least so many */
	int (*run)(char **argv);
	const char *usage;
} modes[] = {
	{ "report", 0, mode_report, "[ANY...]" },
	{ "human", 0, mode_human, "" },
	{ "exit", 1, mode_exit, "STATUS" },
	{ "sleep", 1, mode_sleep, "SECONDS" },
	{ "kill-self", 1, mode_kill_self, "SIGNAL" },
	{ "trap", 0, mode_trap, "" },
	{ "spin", 0, mode_spin, "" },
	{ "fork", 1, mode_fork, "N [stay]" },
	{ "lock", 2, mode_lock, "FILE SECONDS" },
	{ "notify", 2, mode_notify, "TEXT SECONDS" },
	{ "alloc", 1, mode_alloc, "MEBIBYTES" },
	{ "cat", 1, mode_cat, "FILE..." },
	{ "write", 2, mode_write, "FILE TEXT" },
	{ "open", 2, mode_open, "r|w|rw FILE" },
	{ "reopen", 1, mode_reopen, "DESCRIPTOR" },
	{ "mkdir", 1, mode_mkdir, "DIR" },
	{ "mknod", 4, mode_mknod, "FILE c|b MAJOR MINOR" },
	{ "mount-tmpfs", 1, mode_mount_tmpfs, "DIR" },
	{ "stat", 1, mode_stat, "FILE..." },
	{ "ls", 1, mode_ls, "DIR..." },
	{ "open-exe", 1, mode_open_exe, "PID" },
	{ "hunt", 1, mode_hunt, "SECONDS" },
	{ "call", 1, mode_call, "NUMBER [ARGS...]" },
	{ "call32", 1, mode_call32, "NUMBER" },
	{ "tasks", 0, mode_tasks, "" },
};

int main(int argc, char **argv)
{
	size_t i;

	if (argc < 2)
		return mode_report(argv + 1);
	for (i = 0; i < COUNT(modes); i++)
		if (!strcmp(argv[1], modes[i].name) && argc - 2 >= modes[i].args)
			return modes[i].run(argv + 1);
	fprintf(stderr, "usage: probe MODE [ARGS]\n");
	for (i = 0; i < COUNT(modes); i++)
		fprintf(stderr, "       probe %s %s\n", modes[i].name, modes[i].usage);
	return 2;
}
