/*
 * path.c - paths beneath the container's root.
 *
 * The image is hostile and may change while we work. So every path inside the root is resolved once, beneath the root
 * and without magic links, and the operation goes to the descriptor that came out. What is missing on the way is made.
 */

#include <asm/stat.h>
#include <linux/fcntl.h>
#include <linux/openat2.h>
#include <linux/stat.h>

#include "run.h"

#define MAX_LINKS 40 /* the kernel's own limit, path_resolution(7) */

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
const char *last_component(const char *path)
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
int make_path(struct run *r, const char *path, uint64_t resolve, int file)
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
	if (make_last(r, part, resolve, file)) {
		r->made = 1;
		return at(r, STEP_OPEN,
			  open_in_root(r, part, O_PATH | (file ? 0 : O_DIRECTORY), resolve));
	}
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
int make_directory(struct run *r, const char *path, uint64_t resolve)
{
	return make_path(r, path, resolve, 0);
}

/* Opens the directory that `path` lies in, made if need be. */
int make_parent(struct run *r, const char *path, uint64_t resolve)
{
	char parent[PATH_MAX_BYTES];
	int error = at(r, STEP_OPEN, copy_path(parent, path));

	if (error < 0)
		return error;
	parent[parent_length(parent, text_length(parent))] = 0;
	return make_directory(r, parent, resolve);
}

int is_directory(const struct stat *about)
{
	return (about->st_mode & S_IFMT) == S_IFDIR;
}
