/* clone.h - a child, or a thread, on a stack of its own: for nsexec and for the cffi module. */
#ifndef PYOCIRUN_CLONE_H
#define PYOCIRUN_CLONE_H

#include <stddef.h>

#define CALL_CLONE3 435L

/*
 * clone3(2) with a stack: no C library has it, and no other call puts a child into a cgroup from its first moment.
 * The child calls run(argument), which never returns. args: struct clone_args of `size` bytes.
 */
static long clone3_run(const void *args, size_t size, int (*run)(void *), void *argument)
{
#if defined(__x86_64__)
	long pid;
	register int (*function)(void *) __asm__("r8") = run;
	register void *parameter __asm__("r9") = argument;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r9, %%rdi\n\t"
			 "call *%%r8\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(pid)
			 : "a"(CALL_CLONE3), "D"(args), "S"(size), "r"(function), "r"(parameter)
			 : "rcx", "r11", "memory");
	return pid;
#elif defined(__aarch64__)
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = (long)size;
	register long x8 __asm__("x8") = CALL_CLONE3;
	register int (*function)(void *) __asm__("x9") = run;
	register void *parameter __asm__("x10") = argument;

	__asm__ volatile("svc 0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, #0\n\t"
			 "mov x0, x10\n\t"
			 "blr x9\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x1), "r"(x8), "r"(function), "r"(parameter)
			 : "memory", "x30");
	return x0;
#endif
}

#endif
