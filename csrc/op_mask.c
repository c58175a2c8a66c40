/*
 * op_mask.c - masked and read-only paths: each is covered by something that is mounted on it.
 */

#include <asm/stat.h>
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>

#include "run.h"

#define NULL_DEVICE 0x103 /* 1:3 */

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
