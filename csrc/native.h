/* native.h - what pyocirun._native offers; ffi_build.py hands this file to cffi, between the two marks. */
#ifndef PYOCIRUN_NATIVE_H
#define PYOCIRUN_NATIVE_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
const char *pyo_op_name(int code);
const char *pyo_op_signature(int code);
const char *pyo_step_name(int step);
int pyo_plan_check(const char *data, size_t size);
int pyo_sealed_memfd(const char *name, const char *data, size_t size, int executable);
int pyo_shared_memfd(const char *name, size_t size);
int pyo_socketpair(int *ends);
int pyo_launch(int executable, uint64_t flags, const int *fds, int count, int preserve, int cgroup,
	       int *pidfd);
int pyo_send(int fd, const char *data, size_t size, const int *fds, int count);
int pyo_receive(int fd, char *data, size_t size, int *received);
int pyo_each(int call, const char *paths, int count, int *results);
int pyo_poll(int first, int second, int timeout_ms);
int pyo_signals(const int *kept, int count);
int pyo_next_signal(int fd);
int pyo_namespace_type(int fd);
int64_t pyo_fs_type(const char *path);
int pyo_prlimit(int pid, int resource, uint64_t soft, uint64_t hard);
int pyo_flock(int fd, int wait);
int pyo_pidfd_send_signal(int pidfd, int signal);
int pyo_wait(int pidfd, int block, int *status);
int pyo_open_in_root(int root, const char *path);
int pyo_open_tree(const char *path, int recursive);
int pyo_mount_setattr(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int userns,
		      int recursive);
int pyo_open_beneath(int root, const char *path, int links);
int pyo_act_as(uint32_t uid, uint32_t gid);
int pyo_mount(const char *source, const char *target, const char *fstype, uint64_t flags,
	      const char *data);
int pyo_unmount(const char *target);
int pyo_enter_netns(int namespace);
int pyo_bpf_load(const char *code, size_t size);
int pyo_bpf_attach(int cgroup, int program, int replaced);
int pyo_bpf_detach(int cgroup, int program);
int pyo_bpf_query(int cgroup, uint32_t *ids, int count);
int pyo_bpf_open(uint32_t id);
int pyo_landlock_abi(void);
/* cffi: end */

#endif
