/*
 * op_fs.c - the root file system: mounts, masks, pivot_root.
 *
 * The image is hostile and may change while we work. So every path inside the root is resolved once, beneath the root
 * and without magic links, and the operation goes to the descriptor that came out. Nothing here mounts on a path.
 */

#include <asm/fcntl.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>

#include "run.h"

#define MOUNT_DETACH 2
#define PROC_ROOT_INODE 1
#define ST_NOATIME 1024
#define ST_RELATIME 4096
#define NULL_DEVICE 0x103 /* 1:3 */
#define MAX_LINKS 40      /* the kernel's own limit, path_resolution(7) */
#define TREE_FLAGS (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
#define TO_DESCRIPTOR (MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)

static int is_directory(const struct stat *about)
{
	return (about->st_mode & S_IFMT) == S_IFDIR;
}

int openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct k_open_how how = { flags | O_CLOEXEC, mode, resolve };
	int tries = 128;
	int fd;

	do /* EAGAIN: a rename raced with RESOLVE_IN_ROOT, and the kernel could not be sure; it is no failure */
		fd = sys4(NR_OPENAT2, dir, path, &how, sizeof(how));
	while ((fd == -EAGAIN || fd == -EINTR) && --tries);
	return fd;
}

/* Opens what `path` names for a process whose root is the container's. */
int open_in_root(const struct run *r, const char *path, uint64_t flags, uint64_t resolve)
{
	return openat2(r->root, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve);
}

/* Length of the parent's part of `path`: "/a/b/" gives 2, "/a" and "a" give 0 or 1: the root itself. */
static size_t parent_length(const char *path, size_t length)
{
	while (length > 1 && path[length - 1] == '/')
		length--;
	while (length > 0 && path[length - 1] != '/')
		length--;
	while (length > 1 && path[length - 1] == '/')
		length--;
	return length;
}

/* The last component of `path`, which has no trailing slash. */
static const char *last_component(const char *path)
{
	const char *last = path;

	for (; *path; path++)
		if (path[0] == '/' && path[1])
			last = path + 1;
	return last;
}

static int copy_path(char *to, const char *path)
{
	size_t length = text_length(path);

	while (length > 1 && path[length - 1] == '/')
		length--;
	if (length >= PATH_MAX_BYTES)
		return -ENAMETOOLONG;
	copy_bytes(to, path, length);
	to[length] = 0;
	return 0;
}

static int make_component(int parent, const char *name, int file)
{
	auto_fd made = -1;

	if (!file)
		return sys3(__NR_mkdirat, parent, name, 0755);
	made = openat2(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644,
		       RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
	return made < 0 ? made : 0;
}

/*
 * In `path`, the text of a link takes the place of its name. parent: where the link lies. rest: what follows it, its
 * first character, `kept`, cut off. Returns 1 if the text begins at the root, else 0.
 */
static int expand_link(char *path, int parent, const char *name, char *rest, char kept)
{
	char text[PATH_MAX_BYTES];
	size_t left;
	size_t before;
	int length = sys4(__NR_readlinkat, parent, name, text, sizeof(text));

	*rest = kept;
	left = text_length(rest);
	if (length < 0)
		return length;
	before = text[0] == '/' ? 0 : (size_t)(name - path);
	if (before + (size_t)length + left >= PATH_MAX_BYTES)
		return -ENAMETOOLONG;
	copy_bytes(text + length, rest, left);
	copy_bytes(path + before, text, (size_t)length + left);
	path[before + (size_t)length + left] = 0;
	return text[0] == '/';
}

/* Mostly only the last component of `path` is missing. Returns whether that was so, and it is there now. */
static int make_last(struct run *r, char *path, uint64_t resolve, int file)
{
	size_t length = parent_length(path, text_length(path));
	char kept = path[length];
	auto_fd parent = -1;

	path[length] = 0;
	parent = open_in_root(r, *path ? path : "/", O_PATH | O_DIRECTORY, resolve);
	path[length] = kept;
	return parent >= 0 && !make_component(parent, last_component(path), file);
}

/*
 * Opens what `path` names beneath the root, and makes what is missing of it: directories, root-owned, mode 0755, and
 * at its end an empty file if `file` says so. Where a link of the image points at what is not there, that is made,
 * beneath the root like everything else: each component in a directory that was opened beneath the root just before.
 */
static int make_path(struct run *r, const char *path, uint64_t resolve, int file)
{
	char part[PATH_MAX_BYTES];
	char *end = part;
	int links = 0;
	int fd = open_in_root(r, *path ? path : "/", O_PATH | (file ? 0 : O_DIRECTORY), resolve);

	r->made = 0;
	if (fd != -ENOENT)
		return at(r, STEP_OPEN, fd);
	fd = at(r, STEP_OPEN, copy_path(part, path));
	if (fd < 0)
		return fd;
	if (make_last(r, part, resolve, file))
		return at(r, STEP_OPEN,
			  open_in_root(r, part, O_PATH | (file ? 0 : O_DIRECTORY), resolve));
	while (*end) {
		auto_fd parent = -1;
		auto_fd next = -1;
		char *name = end;
		char *rest;
		char kept = *end;

		*end = 0;
		parent = at(r, STEP_OPEN,
			    open_in_root(r, *part ? part : "/", O_PATH | O_DIRECTORY, resolve));
		*end = kept;
		if (parent < 0)
			return parent;
		while (*name == '/')
			name++;
		for (rest = name; *rest && *rest != '/'; rest++)
			;
		if (rest == name)
			break;
		kept = *rest;
		*rest = 0;
		fd = make_component(parent, name, file && !kept);
		r->made = !fd;
		if (fd == -EEXIST)
			next = open_in_root(r, part, O_PATH, resolve);
		else if (fd < 0)
			return at(r, file && !kept ? STEP_CREATE : STEP_MKDIR, fd);
		if (next != -ENOENT) {
			*rest = kept;
			end = rest;
			continue;
		}
		if (++links > MAX_LINKS)
			return at(r, STEP_OPEN, -ELOOP);
		fd = at(r, STEP_OPEN, expand_link(part, parent, name, rest, kept));
		if (fd < 0)
			return fd;
		if (fd)
			end = part;
	}
	return at(r, STEP_OPEN, open_in_root(r, part, O_PATH | (file ? 0 : O_DIRECTORY), resolve));
}

/* Opens the directory `path` beneath the root; what is missing of it is made. */
static int make_directory(struct run *r, const char *path, uint64_t resolve)
{
	return make_path(r, path, resolve, 0);
}

/* Opens the directory that `path` lies in, made if need be. */
static int make_parent(struct run *r, const char *path, uint64_t resolve)
{
	char parent[PATH_MAX_BYTES];
	int error = at(r, STEP_OPEN, copy_path(parent, path));

	if (error < 0)
		return error;
	parent[parent_length(parent, text_length(parent))] = 0;
	return make_directory(r, parent, resolve);
}

static int set_attributes(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int recursive)
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

/*
 * mount "sssusnuuu": source, target, fstype, MS_* flags, data, propagation, MOUNT_ATTR_* to set and to clear in the
 * whole tree, bits.
 * mount(2) on "." after fchdir(2): the target is a descriptor, and no path of it is walked again. What needs the mount
 * itself, too, gets it from fsmount(2), and it is attached to that descriptor.
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
	if (propagation[0] || rec_set || rec_clear || bits & MOUNT_COPY_UP) {
		tree = new_mount(r, source, fstype, flags, data);
		if (tree >= 0 && bits & MOUNT_COPY_UP) {
			r->tree = keep_fd(&tree);
			r->place = keep_fd(&place);
			return 0;
		}
		error = tree < 0 ? tree
				 : attach(r, tree, place, 0, rec_set, rec_clear, propagation);
	} else {
		error = at(r, STEP_CHDIR, sys1(__NR_fchdir, place));
		if (!error)
			error = at(r, STEP_MOUNT,
				   sys5(__NR_mount, source, ".", fstype, flags, data));
		if (error == -EINVAL)
			blame_option(r, source, fstype, data);
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

static int must_be_procfs(int fd)
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
	place = make_path(r, target, 0, !is_directory(&about));
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

/* An image's /dev that is a link would make us put nodes elsewhere, say into a volume (CVE-2026-41579). */
static uint64_t device_resolve(const char *path)
{
	return text_starts(path, "/dev/") ? RESOLVE_NO_SYMLINKS : 0;
}

/* node "suuuu": path, mode with type, device number, uid, gid. */
int op_node(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	uint64_t mode = take_u64(c);
	uint64_t device = take_u64(c);
	uint64_t uid = take_u64(c);
	uint64_t gid = take_u64(c);
	auto_fd parent = make_parent(r, path, device_resolve(path));
	const char *name = last_component(path);
	struct stat about;
	int error;

	if (parent < 0)
		return parent;
	error = sys4(__NR_mknodat, parent, name, mode, device);
	if (error == -EEXIST) {
		error = at(r, STEP_STAT,
			   sys4(__NR_newfstatat, parent, name, &about, AT_SYMLINK_NOFOLLOW));
		if (!error &&
		    ((about.st_mode & S_IFMT) != (mode & S_IFMT) || about.st_rdev != device))
			error = at(r, STEP_VERIFY, -EEXIST);
		return error;
	}
	if (error)
		return at(r, STEP_MKNOD, error);
	if (!uid && !gid)
		return 0;
	return at(r, STEP_CHOWN, sys5(__NR_fchownat, parent, name, uid, gid, AT_SYMLINK_NOFOLLOW));
}

/* symlink "ssu": what it says, path, bits. One that is there already stays, unless it is to be replaced. */
int op_symlink(struct run *r, struct cursor *c)
{
	const char *text = take_str(c);
	const char *path = take_str(c);
	uint64_t bits = take_u64(c);
	auto_fd parent = make_parent(r, path, device_resolve(path));
	const char *name = last_component(path);
	int error;

	if (parent < 0)
		return parent;
	if (bits & SYMLINK_REPLACE)
		sys3(__NR_unlinkat, parent, name, 0);
	error = sys3(__NR_symlinkat, text, parent, name);
	return error == -EEXIST ? 0 : at(r, STEP_SYMLINK, error);
}

/*
 * sysctl "ss": path beneath /proc/sys, value. It comes before pivot_root, so /proc is the host's and nothing that a
 * container mounted; it is checked to be procfs all the same, and nothing mounted inside it is entered (CVE-2025-52881).
 */
int op_sysctl(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	const char *value = take_str(c);
	struct stat about;
	auto_fd file = -1;
	auto_fd proc = at(r, STEP_OPEN,
			  openat2(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS));
	int written;

	if (proc < 0)
		return proc;
	if (must_be_procfs(proc) || sys2(__NR_fstat, proc, &about) ||
	    about.st_ino != PROC_ROOT_INODE)
		return at(r, STEP_VERIFY, -EXDEV);
	file = at(r, STEP_OPEN,
		  openat2(proc, path, O_WRONLY, 0,
			  RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS));
	if (file < 0)
		return file;
	written = at(r, STEP_WRITE, sys3(__NR_write, file, value, text_length(value)));
	return written < 0 ? written : 0;
}

static int open_new_root(struct run *r)
{
	int error = at(r, STEP_CHDIR, sys1(__NR_chdir, "/"));
	int root;

	if (error)
		return error;
	root = at(r, STEP_OPEN, openat2(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0, 0));
	if (root < 0)
		return root;
	if (r->root >= 0)
		sys1(__NR_close, r->root);
	r->root = root;
	return 0;
}

/*
 * The old root ends up on top of the new one, and is taken off. It turns into a slave first: taking it off must not
 * reach the host. No descriptor of it stays.
 */
int op_pivot_root(struct run *r, struct cursor *c)
{
	auto_fd old = at(r, STEP_OPEN, openat2(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0, 0));
	int error;

	(void)c;
	if (old < 0)
		return old;
	error = at(r, STEP_CHDIR, sys1(__NR_fchdir, r->root));
	if (!error)
		error = at(r, STEP_PIVOT_ROOT, sys2(__NR_pivot_root, ".", "."));
	if (!error)
		error = at(r, STEP_CHDIR, sys1(__NR_fchdir, old));
	if (!error)
		error = at(r, STEP_MOUNT,
			   sys5(__NR_mount, NULL, ".", NULL, MS_SLAVE | MS_REC, NULL));
	if (!error)
		error = at(r, STEP_UMOUNT, sys2(__NR_umount2, ".", MOUNT_DETACH));
	return error ? error : open_new_root(r);
}

/* A whole procfs or sysfs below the new root would give the host away to a process that climbs out: off with it. */
static int remove_host_mount(struct run *r, const char *path)
{
	int error;

	sys5(__NR_mount, NULL, path, NULL, MS_SLAVE | MS_REC, NULL);
	error = sys2(__NR_umount2, path, MOUNT_DETACH);
	if (error == -EPERM) /* locked by a user namespace: cover it */
		error = sys5(__NR_mount, "tmpfs", path, "tmpfs", MS_RDONLY, "size=0");
	return error == -EINVAL || error == -ENOENT ? 0 : at(r, STEP_UMOUNT, error);
}

/* Where the root is a ramfs, pivot_root fails; moving the mount is weaker (the host stays mounted below). */
int op_move_root(struct run *r, struct cursor *c)
{
	int error = remove_host_mount(r, "/proc");

	(void)c;
	if (!error)
		error = remove_host_mount(r, "/sys");
	if (!error)
		error = at(r, STEP_CHDIR, sys1(__NR_fchdir, r->root));
	if (!error)
		error = at(r, STEP_MOUNT, sys5(__NR_mount, ".", "/", NULL, MS_MOVE, NULL));
	if (!error)
		error = at(r, STEP_CHROOT, sys1(__NR_chroot, "."));
	return error ? error : open_new_root(r);
}

/* chroot "s": for a container that shares the mount namespace. "/" opens the root and changes nothing. */
int op_chroot(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	int error = 0;

	if (!text_equal(path, "/")) {
		error = at(r, STEP_CHDIR, sys1(__NR_chdir, path));
		if (!error)
			error = at(r, STEP_CHROOT, sys1(__NR_chroot, "."));
	}
	return error ? error : open_new_root(r);
}

/* enter_root "u": slot of the root directory of a container that shares our mount namespace. */
int op_enter_root(struct run *r, struct cursor *c)
{
	uint64_t slot = take_u64(c);
	int error;

	if (slot >= r->slot_count)
		return at(r, STEP_PROTOCOL, -EPROTO);
	error = at(r, STEP_CHDIR, sys1(__NR_fchdir, r->slots[slot]));
	if (!error)
		error = at(r, STEP_CHROOT, sys1(__NR_chroot, "."));
	return error ? error : open_new_root(r);
}

/* root_propagation "u": MS_* flags for the container's own root. */
int op_root_propagation(struct run *r, struct cursor *c)
{
	return at(r, STEP_MOUNT, sys5(__NR_mount, NULL, "/", NULL, take_u64(c), NULL));
}

int is_null_device(int fd)
{
	struct stat about;

	return !sys2(__NR_fstat, fd, &about) && (about.st_mode & S_IFMT) == S_IFCHR &&
	       about.st_rdev == NULL_DEVICE;
}

/* The container's own /dev/null: no link on the way, and really the device (CVE-2025-31133). */
int open_null(struct run *r)
{
	int fd;

	if (r->null >= 0)
		return r->null;
	fd = at(r, STEP_OPEN,
		open_in_root(r, "/dev/null", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS));
	if (fd < 0)
		return fd;
	r->null = fd;
	return is_null_device(fd) ? fd : at(r, STEP_VERIFY, -ENODEV);
}

static int clone_onto(struct run *r, int source, int place, uint64_t set)
{
	auto_fd tree =
		at(r, STEP_OPEN_TREE, sys3(NR_OPEN_TREE, source, "", TREE_FLAGS | AT_EMPTY_PATH));
	int error;

	if (tree < 0)
		return tree;
	error = set ? at(r, STEP_MOUNT_SETATTR, set_attributes(tree, set, 0, 0, 0)) : 0;
	return error ? error
		     : at(r, STEP_MOVE_MOUNT,
			  sys5(NR_MOVE_MOUNT, tree, "", place, "", TO_DESCRIPTOR));
}

/*
 * Mounts the file behind `source` on `path`, which becomes an empty file if there is nothing. Neither on the way nor in
 * the end may there be a symbolic link: one of the image would have the file made elsewhere (CVE-2026-88264).
 */
int cover_file(struct run *r, int source, const char *path)
{
	auto_fd parent = make_parent(r, path, RESOLVE_NO_SYMLINKS);
	auto_fd made = -1;
	auto_fd place = -1;
	struct stat about;
	int error;

	if (parent < 0)
		return parent;
	made = openat2(parent, last_component(path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0620,
		       RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (made < 0 && made != -EEXIST)
		return at(r, STEP_CREATE, made);
	place = at(r, STEP_OPEN,
		   openat2(parent, last_component(path), O_PATH | O_NOFOLLOW, 0,
			   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS));
	if (place < 0)
		return place;
	/* With O_PATH and O_NOFOLLOW, a link is opened itself. */
	error = at(r, STEP_STAT, sys2(__NR_fstat, place, &about));
	if (!error && (about.st_mode & S_IFMT) == S_IFLNK)
		error = at(r, STEP_VERIFY, -ELOOP);
	return error ? error : clone_onto(r, source, place, 0);
}

/* An empty read-only tmpfs that is mounted nowhere yet. */
static int empty_directory(struct run *r)
{
	auto_fd context = at(r, STEP_MOUNT, sys2(NR_FSOPEN, "tmpfs", FSOPEN_CLOEXEC));
	int error;

	if (context < 0)
		return context;
	error = sys5(NR_FSCONFIG, context, FSCONFIG_SET_STRING, "nr_blocks", "1", 0);
	if (!error)
		error = sys5(NR_FSCONFIG, context, FSCONFIG_SET_STRING, "nr_inodes", "1", 0);
	if (!error)
		error = sys5(NR_FSCONFIG, context, FSCONFIG_SET_FLAG, "ro", NULL, 0);
	if (!error)
		error = sys5(NR_FSCONFIG, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (error)
		return at(r, STEP_MOUNT, error);
	return at(r, STEP_MOUNT, sys3(NR_FSMOUNT, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY));
}

/* All masked directories are covered by the same empty one: one superblock serves all. */
static int cover_directory(struct run *r, int place)
{
	if (r->covered >= 0)
		return clone_onto(r, r->covered, place, 0);
	r->covered = empty_directory(r);
	if (r->covered < 0)
		return r->covered;
	return at(r, STEP_MOVE_MOUNT,
		  sys5(NR_MOVE_MOUNT, r->covered, "", place, "", TO_DESCRIPTOR));
}

static int is_missing(int error)
{
	return error == -ENOENT || error == -ENOTDIR;
}

/* mask_path "s" */
int op_mask_path(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	auto_fd place = at(r, STEP_OPEN, open_in_root(r, path, O_PATH, 0));
	struct stat about;
	int null;
	int error;

	if (is_missing(place))
		return 0;
	if (place < 0)
		return place;
	error = at(r, STEP_STAT, sys2(__NR_fstat, place, &about));
	if (error)
		return error;
	if (is_directory(&about))
		return cover_directory(r, place);
	null = open_null(r);
	return null < 0 ? null : clone_onto(r, null, place, 0);
}

/* readonly_path "s" */
int op_readonly_path(struct run *r, struct cursor *c)
{
	const char *path = take_str(c);
	auto_fd place = at(r, STEP_OPEN, open_in_root(r, path, O_PATH, 0));
	auto_fd tree = -1;
	int error;

	if (is_missing(place))
		return 0;
	if (place < 0)
		return place;
	tree = at(r, STEP_OPEN_TREE,
		  sys3(NR_OPEN_TREE, place, "", TREE_FLAGS | AT_EMPTY_PATH | AT_RECURSIVE));
	if (tree < 0)
		return tree;
	error = at(r, STEP_MOUNT_SETATTR, set_attributes(tree, MOUNT_ATTR_RDONLY, 0, 0, 0));
	return error ? error
		     : at(r, STEP_MOVE_MOUNT,
			  sys5(NR_MOVE_MOUNT, tree, "", place, "", TO_DESCRIPTOR));
}

/* make_cwd "s" */
int op_make_cwd(struct run *r, struct cursor *c)
{
	auto_fd fd = make_directory(r, take_str(c), 0);

	return fd < 0 ? fd : 0;
}
