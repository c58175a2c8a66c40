/*
 * op_mount.c - the root as a mount of its own, and what is mounted in it.
 *
 * Nothing here mounts on a path inside the root: see path.c.
 */

#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>

#include "run.h"

#define ST_NOATIME 1024
#define ST_RELATIME 4096

int set_attributes(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int recursive)
{
	struct k_mount_attr attributes = { set, clear, propagation, 0 };
	unsigned int flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0U);

	return sys5(NR_MOUNT_SETATTR, fd, "", flags, &attributes, sizeof(attributes));
}

/* Propagation types of `list`, each as MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC or without. */
static int propagate(struct run *r, int fd, const uint64_t *list)
{
	for (uint64_t i = 1; i <= list[0]; i++) {
		uint64_t type = list[i] & ~(uint64_t)MS_REC;
		int error = at(r, STEP_MOUNT_SETATTR,
			       set_attributes(fd, 0, 0, type, (list[i] & MS_REC) != 0));

		if (error < 0)
			return error;
	}
	return 0;
}

/* propagation "su": a path of the host's view, MS_* flags. */
int op_propagation(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	uint64_t flags = take_u64(c);

	return at(r, STEP_MOUNT, sys5(__NR_mount, NULL, path, NULL, flags, NULL));
}

/*
 * rootfs "su": path of the host's view, slot of a tree that the parent opened, or NO_FD.
 * The root becomes a mount of its own, so that it can be pivoted to. It goes on top of the root directory itself where
 * the parent handed a tree over: its path may not be reachable with the ids of our user namespace.
 */
int op_rootfs(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	uint64_t slot = take_u64(c);
	auto_fd opened = -1;
	auto_fd place = -1;
	int tree;
	int error;

	if (slot != NO_FD && slot >= r->slot_count)
		return at(r, STEP_PROTOCOL, -EPROTO);
	place = at(r, STEP_OPEN,
		   openat2(AT_FDCWD, slot == NO_FD ? path : "/", O_PATH | O_DIRECTORY, 0, 0));
	if (place < 0)
		return place;
	if (slot == NO_FD) {
		opened = at(
			r, STEP_OPEN_TREE,
			sys3(NR_OPEN_TREE, place, "", TREE_FLAGS | AT_EMPTY_PATH | AT_RECURSIVE));
		if (opened < 0)
			return opened;
	}
	tree = slot == NO_FD ? opened : r->slots[slot];
	error = at(r, STEP_MOVE_MOUNT, sys5(NR_MOVE_MOUNT, tree, "", place, "", TO_DESCRIPTOR));
	if (error)
		return error;
	r->root = slot == NO_FD ? keep_fd(&opened) : tree;
	return 0;
}

/* ",mode=0755" behind the options: a new tmpfs looks like the directory that it covers. */
static int with_mode(char *to, size_t size, unsigned int mode, const char *data)
{
	size_t length = text_length(data);

	if (length + sizeof(",mode=0755") > size)
		return -E2BIG;
	copy_bytes(to, data, length);
	to += length;
	if (length)
		*to++ = ',';
	copy_bytes(to, "mode=", 5);
	to += 5;
	for (int shift = 9; shift >= 0; shift -= 3)
		*to++ = (char)('0' + ((mode >> shift) & 7));
	*to = 0;
	return 0;
}

/*
 * Nothing may be mounted inside procfs: it could fake what security modules rely on (CVE-2019-16884). The text of the
 * target was looked at before; here it counts what a link of the image made of it.
 */
static int refuse_procfs(struct run *r, int place, uint64_t bits)
{
	struct statfs type;
	int error = at(r, STEP_FSTYPE, sys2(__NR_fstatfs, place, &type));

	if (!error && type.f_type == PROC_SUPER_MAGIC && !(bits & TARGET_IN_PROC))
		error = at(r, STEP_VERIFY, -EXDEV);
	return error;
}

/* The MOUNT_ATTR_* bits that say what the MS_* bits of one mount say. */
static uint64_t mount_attributes(uint64_t flags)
{
	uint64_t set =
		flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC); /* the same numbers */

	if (flags & MS_NOATIME)
		set |= MOUNT_ATTR_NOATIME;
	if (flags & MS_STRICTATIME)
		set |= MOUNT_ATTR_STRICTATIME;
	if (flags & MS_NODIRATIME)
		set |= MOUNT_ATTR_NODIRATIME;
	if (flags & MS_NOSYMFOLLOW)
		set |= MOUNT_ATTR_NOSYMFOLLOW;
	return set;
}

/* The MS_* bits that belong to the file system and not to one mount of it: here it wants them by name. */
static const struct {
	uint64_t flag;
	const char *name;
} file_system_flags[] = {
	{ MS_RDONLY, "ro" },         { MS_SYNCHRONOUS, "sync" }, { MS_DIRSYNC, "dirsync" },
	{ MS_LAZYTIME, "lazytime" }, { MS_MANDLOCK, "mand" },
};

/* Cuts the first option off *data, in place: "name" or "name=value". A quoted value may contain commas. */
static char *cut_option(char **data, char **value)
{
	char *option = *data;
	char *end = option;
	int quoted = 0;

	*value = NULL;
	for (; *end && (quoted || *end != ','); end++) {
		if (*end == '"')
			quoted = !quoted;
		else if (*end == '=' && !*value) {
			*end = 0;
			*value = end + 1;
		}
	}
	*data = *end ? end + 1 : end;
	*end = 0;
	if (*value && **value == '"' && end - *value > 1 && end[-1] == '"') {
		end[-1] = 0;
		++*value;
	}
	return option;
}

/* Hands every option to a new file system. Sets r->value to the number of the one that is refused, counted from 1. */
static int configure(struct run *r, int context, const char *source, uint64_t flags,
		     const char *data)
{
	char options[PATH_MAX_BYTES];
	char *left = options;
	int error = sys5(NR_FSCONFIG, context, FSCONFIG_SET_STRING, "source", source, 0);

	for (size_t i = 0; i < sizeof(file_system_flags) / sizeof(*file_system_flags); i++)
		if (!error && flags & file_system_flags[i].flag)
			error = sys5(NR_FSCONFIG, context, FSCONFIG_SET_FLAG,
				     file_system_flags[i].name, NULL, 0);
	if (text_length(data) >= sizeof(options))
		return -E2BIG;
	copy_bytes(options, data, text_length(data) + 1);
	for (int64_t number = 1; !error && *left; number++) {
		char *value;
		char *key = cut_option(&left, &value);

		if (*key)
			error = sys5(NR_FSCONFIG, context,
				     value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value,
				     0);
		if (error)
			r->value = number;
	}
	return error;
}

/* A new file system, mounted nowhere yet. What mount(2) would do in one go, where its descriptor is needed. */
static int new_mount(struct run *r, const char *source, const char *fstype, uint64_t flags,
		     const char *data)
{
	auto_fd context = sys2(NR_FSOPEN, fstype, FSOPEN_CLOEXEC);
	int error = context;

	if (context >= 0)
		error = configure(r, context, source, flags, data);
	if (!error)
		error = sys5(NR_FSCONFIG, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (!error)
		error = sys3(NR_FSMOUNT, context, FSMOUNT_CLOEXEC, mount_attributes(flags));
	return at(r, STEP_MOUNT, error);
}

/* mount(2) says EINVAL and no more: find out which option it was. */
static void blame_option(struct run *r, const char *source, const char *fstype, const char *data)
{
	auto_fd context = sys2(NR_FSOPEN, fstype, FSOPEN_CLOEXEC);

	if (context >= 0)
		configure(r, context, source, 0, data);
}

/* Changes a detached mount, and attaches it to a directory or file. */
static int attach(struct run *r, int tree, int place, uint64_t set, uint64_t rec_set,
		  uint64_t rec_clear, const uint64_t *propagation)
{
	int error = set ? at(r, STEP_MOUNT_SETATTR, set_attributes(tree, set, 0, 0, 0)) : 0;

	if (!error && (rec_set || rec_clear))
		error = at(r, STEP_MOUNT_SETATTR, set_attributes(tree, rec_set, rec_clear, 0, 1));
	if (!error)
		error = at(r, STEP_MOVE_MOUNT,
			   sys5(NR_MOVE_MOUNT, tree, "", place, "", TO_DESCRIPTOR));
	return error ? error : propagate(r, tree, propagation);
}

/* fsconfig(2) takes no value that is longer, and mount(2) does: an overlay of several directories has one. */
#define LONGEST_VALUE 255

static int has_long_option(const char *data)
{
	size_t length = 0;

	for (; *data; data++) {
		length = *data == ',' ? 0 : length + 1;
		if (length > LONGEST_VALUE)
			return 1;
	}
	return 0;
}

static int mount_on(struct run *r, int place, const char *source, const char *fstype,
		    uint64_t flags, const char *data)
{
	int error = at(r, STEP_CHDIR, sys1(__NR_fchdir, place));

	if (!error)
		error = at(r, STEP_MOUNT, sys5(__NR_mount, source, ".", fstype, flags, data));
	if (error == -EINVAL)
		blame_option(r, source, fstype, data);
	return error;
}

/* Changes what was mounted on `place` by now: it is looked for at `target`, and has to be another file system. */
static int change_mounted(struct run *r, int place, const char *target, uint64_t resolve,
			  uint64_t rec_set, uint64_t rec_clear, const uint64_t *propagation)
{
	auto_fd mounted = at(r, STEP_OPEN, open_in_root(r, target, O_PATH | O_DIRECTORY, resolve));
	struct stat below, above;
	int error = mounted;

	if (mounted >= 0)
		error = at(r, STEP_STAT, sys2(__NR_fstat, place, &below));
	if (!error)
		error = at(r, STEP_STAT, sys2(__NR_fstat, mounted, &above));
	if (!error && below.st_dev == above.st_dev)
		error = at(r, STEP_VERIFY, -ESTALE);
	if (!error && (rec_set || rec_clear))
		error = at(r, STEP_MOUNT_SETATTR,
			   set_attributes(mounted, rec_set, rec_clear, 0, 1));
	return error ? error : propagate(r, mounted, propagation);
}

/*
 * mount "sssusnuuu": source, target, fstype, MS_* flags, data, propagation, MOUNT_ATTR_* to set and to clear in the
 * whole tree, bits.
 * mount(2) on "." after fchdir(2): the target is a descriptor, and no path of it is walked again. What needs the mount
 * itself, too, gets it from fsmount(2), and it is attached to that descriptor; or, where the options are too long for
 * fsconfig(2), looks for it once more.
 */
int op_mount(struct run *r, struct cursor *c)
{
	const char *source = take_str(c);
	const char *target = take_str(c);
	const char *fstype = take_str(c);
	uint64_t flags = take_u64(c);
	const char *data = take_str(c);
	const uint64_t *propagation = take_list(c);
	uint64_t rec_set = take_u64(c);
	uint64_t rec_clear = take_u64(c);
	uint64_t bits = take_u64(c);
	uint64_t resolve = bits & TARGET_PLAIN_DIRECTORY ? RESOLVE_NO_SYMLINKS : 0;
	char options[PATH_MAX_BYTES];
	struct stat about;
	auto_fd place = make_directory(r, target, resolve);
	auto_fd tree = -1;
	int error;

	r->refused = 0;
	if (place < 0)
		return place;
	error = refuse_procfs(r, place, bits);
	if (!error && bits & MOUNT_COPY_MODE && !r->made) {
		error = at(r, STEP_STAT, sys2(__NR_fstat, place, &about));
		if (!error)
			error = at(
				r, STEP_MOUNT,
				with_mode(options, sizeof(options), about.st_mode & 07777, data));
		data = options;
	}
	if (error)
		return error;
	if (!(propagation[0] || rec_set || rec_clear || bits & MOUNT_COPY_UP)) {
		error = mount_on(r, place, source, fstype, flags, data);
	} else if (has_long_option(data) && !(bits & MOUNT_COPY_UP)) {
		error = mount_on(r, place, source, fstype, flags, data);
		if (!error)
			error = change_mounted(r, place, target, resolve, rec_set, rec_clear,
					       propagation);
	} else {
		tree = new_mount(r, source, fstype, flags, data);
		if (tree >= 0 && bits & MOUNT_COPY_UP) {
			r->tree = keep_fd(&tree);
			r->place = keep_fd(&place);
			return 0;
		}
		error = tree < 0 ? tree
				 : attach(r, tree, place, 0, rec_set, rec_clear, propagation);
	}
	if (bits & MOUNT_OR_ELSE && r->step == STEP_MOUNT && (error == -EPERM || error == -EBUSY)) {
		r->refused = 1;
		return 0;
	}
	return error;
}

/*
 * attach "uuun": MOUNT_ATTR_* to set on the mount, to set and to clear in its tree, propagation. It ends what a mount
 * with copy-up began.
 */
int op_attach(struct run *r, struct cursor *c)
{
	uint64_t set = take_u64(c);
	uint64_t rec_set = take_u64(c);
	uint64_t rec_clear = take_u64(c);
	auto_fd tree = keep_fd(&r->tree);
	auto_fd place = keep_fd(&r->place);

	return attach(r, tree, place, set, rec_set, rec_clear, take_list(c));
}

/* A copy of what is in the container's root by now, with the mounts that were made there. */
static int open_inside(struct run *r, const char *source, unsigned int flags)
{
	auto_fd fd = at(r, STEP_OPEN, open_in_root(r, source, O_PATH, 0));

	if (fd < 0)
		return fd;
	return at(r, STEP_OPEN_TREE, sys3(NR_OPEN_TREE, fd, "", flags | AT_EMPTY_PATH));
}

static int open_source(struct run *r, const char *source, uint64_t slot, uint64_t bits)
{
	unsigned int flags = TREE_FLAGS | (bits & BIND_RECURSIVE ? AT_RECURSIVE : 0U);

	if (bits & BIND_INSIDE)
		return open_inside(r, source, flags);
	if (bits & BIND_HELD)
		return r->tree < 0 ? at(r, STEP_PROTOCOL, -EPROTO) : keep_fd(&r->tree);
	if (slot == NO_FD)
		return at(r, STEP_OPEN_TREE, sys3(NR_OPEN_TREE, AT_FDCWD, source, flags));
	if (slot >= r->slot_count)
		return at(r, STEP_PROTOCOL, -EPROTO);
	return r->slots[slot];
}

/* hold_tree "su": path in the container's root, bits. The parent maps the ids of the copy, and bind attaches it. */
int op_hold_tree(struct run *r, struct cursor *c)
{
	const char *source = take_str(c);
	uint64_t bits = take_u64(c);
	int tree = open_inside(r, source, TREE_FLAGS | (bits & BIND_RECURSIVE ? AT_RECURSIVE : 0U));

	if (tree < 0)
		return tree;
	r->tree = tree;
	return 0;
}

int must_be_procfs(int fd)
{
	struct statfs type;
	int error = sys2(__NR_fstatfs, fd, &type);

	return !error && type.f_type != PROC_SUPER_MAGIC ? -EINVAL : error;
}

/*
 * The kernel locks what the host's mounts forbid when a user namespace gets a copy of them. A tree that the parent
 * opened is no such copy: the same rule is kept here. statfs(2) has the flags of mount_setattr(2), but for access time.
 */
static int refuse_unlocking(int tree, uint64_t set, uint64_t clear)
{
	struct statfs about;
	int error = sys2(__NR_fstatfs, tree, &about);
	uint64_t flags = (uint64_t)about.f_flags;
	uint64_t time;

	if (error)
		return error;
	if (clear & flags &
	    (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC))
		return -EPERM;
	if (!(clear & MOUNT_ATTR__ATIME))
		return 0;
	time = flags & ST_NOATIME    ? MOUNT_ATTR_NOATIME
	       : flags & ST_RELATIME ? MOUNT_ATTR_RELATIME
				     : MOUNT_ATTR_STRICTATIME;
	return (set & MOUNT_ATTR__ATIME) == time ? 0 : -EPERM;
}

/*
 * bind "ssuuuuunu": source (host view), target, slot of a tree that the parent opened or NO_FD, MOUNT_ATTR_* to set,
 * to clear, to set and to clear in the whole tree, propagation, bits. Attributes go to the detached tree: there is no
 * moment at which it is mounted without them.
 */
int op_bind(struct run *r, struct cursor *c)
{
	const char *source = take_str(c);
	const char *target = take_str(c);
	uint64_t slot = take_u64(c);
	uint64_t set = take_u64(c);
	uint64_t clear = take_u64(c);
	uint64_t rec_set = take_u64(c);
	uint64_t rec_clear = take_u64(c);
	const uint64_t *propagation = take_list(c);
	uint64_t bits = take_u64(c);
	uint64_t resolve = bits & TARGET_PLAIN_DIRECTORY ? RESOLVE_NO_SYMLINKS : 0;
	int needed = !(bits & BIND_INSTEAD) || r->refused;
	auto_fd tree = needed || slot != NO_FD ? open_source(r, source, slot, bits) : -1;
	auto_fd place = -1;
	struct stat about;
	int error;

	if (!needed || (tree == -ENOENT && bits & BIND_OPTIONAL))
		return 0;
	if (tree < 0)
		return tree;
	error = at(r, STEP_STAT, sys2(__NR_fstat, tree, &about));
	if (!error && bits & BIND_PROC_ONLY)
		error = at(r, STEP_FSTYPE, must_be_procfs(tree));
	if (!error && bits & BIND_LOCKED)
		error = at(r, STEP_MOUNT_SETATTR,
			   refuse_unlocking(tree, set | rec_set, clear | rec_clear));
	if (!error && (set || clear))
		error = at(r, STEP_MOUNT_SETATTR, set_attributes(tree, set, clear, 0, 0));
	if (error)
		return error;
	place = make_path(r, target, resolve, !is_directory(&about));
	if (place < 0)
		return place;
	error = refuse_procfs(r, place, bits);
	return error ? error : attach(r, tree, place, 0, rec_set, rec_clear, propagation);
}

/* attributes "suunu": path of a mount, MOUNT_ATTR_* to set, to clear, propagation, bits. */
int op_attributes(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	uint64_t set = take_u64(c);
	uint64_t clear = take_u64(c);
	const uint64_t *propagation = take_list(c);
	uint64_t bits = take_u64(c);
	auto_fd fd = at(r, STEP_OPEN, open_in_root(r, path, O_PATH, 0));
	int error;

	if (fd < 0)
		return fd;
	error = at(r, STEP_MOUNT_SETATTR,
		   set_attributes(fd, set, clear, 0, (bits & ATTR_RECURSIVE) != 0));
	return error ? error : propagate(r, fd, propagation);
}

/* remount "sus": path of a mount, MS_* flags, data: new options for its file system. */
int op_remount(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	uint64_t flags = take_u64(c);
	const char *data = take_str(c);
	auto_fd fd = at(r, STEP_OPEN, open_in_root(r, path, O_PATH | O_DIRECTORY, 0));
	int error;

	if (fd < 0)
		return fd;
	error = at(r, STEP_CHDIR, sys1(__NR_fchdir, fd));
	return error ? error : at(r, STEP_MOUNT, sys5(__NR_mount, NULL, ".", NULL, flags, data));
}

/* relabel "ss": path, SELinux label of what is mounted there: it has no option for that. */
int op_relabel(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	const char *label = take_str(c);
	auto_fd fd = at(r, STEP_OPEN, open_in_root(r, path, O_RDONLY | O_DIRECTORY, 0));

	if (fd < 0)
		return fd;
	return at(r, STEP_SETXATTR,
		  sys5(__NR_fsetxattr, fd, "security.selinux", label, text_length(label) + 1, 0));
}
