/*
 * fuzz_plan.c - plans of any bytes against plan_check, in a build that reports every wrong access.
 *
 * With a main of its own it reads a stream of plans from stdin, each behind its length in four bytes, and tells how
 * many were accepted; tests/plan/test_mutations.py feeds it so:
 *
 *	cc -std=gnu17 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Icsrc \
 *		csrc/wire.c csrc/test/fuzz_plan.c -o fuzz_plan
 *
 * As a target of libFuzzer, which makes up the plans itself; start it with an encoded plan or two in CORPUS:
 *
 *	clang -std=gnu17 -g -O1 -DLIBFUZZER -fsanitize=fuzzer,address,undefined -Icsrc \
 *		csrc/wire.c csrc/test/fuzz_plan.c -o fuzz_plan && ./fuzz_plan CORPUS
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static _Noreturn void broken(const char *what)
{
	fprintf(stderr, "plan_check accepted a plan with %s\n", what);
	abort();
}

static void inside(const struct plan *plan, uint64_t start, uint64_t length, const char *what)
{
	uint64_t base = (uint64_t)(uintptr_t)plan->base;

	if (start < base || start - base > plan->header.size ||
	    length > plan->header.size - (start - base))
		broken(what);
}

/* How many bytes a string takes. Reading it is the test: the sanitizer sees the first byte that is not the plan's. */
static size_t use_string(const struct plan *plan, uint64_t word)
{
	size_t length;

	inside(plan, word, 1, "a string outside");
	length = strlen((const char *)(uintptr_t)word);
	inside(plan, word, length + 1, "a string without end");
	return length + 1;
}

static size_t use_list(const struct plan *plan, uint64_t word, int strings)
{
	const uint64_t *list = (const uint64_t *)(uintptr_t)word;
	size_t used = 0;

	if (word % 8)
		broken("an unaligned list");
	inside(plan, word, 8, "a list outside");
	inside(plan, word, (list[0] + (strings ? 2 : 1)) * 8, "a list that is too long");
	for (uint64_t i = 1; i <= list[0]; i++)
		used += strings ? use_string(plan, list[i]) : (size_t)(list[i] & 1);
	if (strings && list[list[0] + 1])
		broken("a list of strings without end");
	return used;
}

/* Fields and lists follow each other and never overlap: nothing may be turned into a pointer twice. */
static size_t use_op(const struct plan *plan, const struct plan_op *op, uint64_t *end)
{
	uint64_t word = (uint64_t)(uintptr_t)(plan->base + op->fields);
	const uint64_t *field = (const uint64_t *)(uintptr_t)word;
	const char *signature = op_types[op->code].signature;
	size_t used = 0;

	if (word % 8)
		broken("unaligned fields");
	if (word < *end)
		broken("fields that overlap");
	*end = word + strlen(signature) * 8;
	inside(plan, word, strlen(signature) * 8, "fields outside");
	for (; *signature; signature++, field++) {
		if (*signature == 's') {
			used += use_string(plan, *field);
		} else if (*signature != 'u') {
			if (*field < *end)
				broken("a list that overlaps");
			used += use_list(plan, *field, *signature == 'a');
			*end = *field + (*(const uint64_t *)(uintptr_t)*field +
					 (*signature == 'a' ? 2 : 1)) *
						8;
		}
	}
	return used;
}

static int slot_is_fine(const struct plan *plan, uint32_t slot)
{
	return slot == UINT32_MAX || (slot < plan->header.fd_count && slot < PLAN_MAX_FDS);
}

/* 0: refused.  Else: accepted, everything in it lies inside, and that many bytes less one were read. */
static size_t try_plan(const uint8_t *data, size_t size)
{
	/* Exactly as large as the plan, so that the byte behind it is forbidden ground. malloc aligns to 16. */
	unsigned char *copy = malloc(size ? size : 1);
	struct plan plan;
	uint32_t bad;
	int accepted;
	uint64_t end;
	size_t used = 1;

	if (!copy)
		abort();
	if (size)
		memcpy(copy, data, size);
	accepted = plan_check(copy, size, &plan, &bad) == 0;
	if (accepted && bad != UINT32_MAX)
		broken("an operation in question");
	if (accepted && plan.header.size != size)
		broken("another size");
	if (accepted && !(slot_is_fine(&plan, plan.header.gate_slot) &&
			  slot_is_fine(&plan, plan.header.report_slot) &&
			  slot_is_fine(&plan, plan.header.stamps_slot)))
		broken("a slot without descriptor");
	end = accepted ? (uint64_t)(uintptr_t)(plan.ops + plan.header.op_count) : 0;
	for (uint32_t i = 0; accepted && i < plan.header.op_count; i++) {
		if (plan.ops[i].code >= OP_COUNT || plan.ops[i].index >= PLAN_MAX_OPS)
			broken("an unknown operation");
		if (i && plan.ops[i].index <= plan.ops[i - 1].index)
			broken("operations out of order");
		used += use_op(&plan, &plan.ops[i], &end);
	}
	free(copy);
	return accepted ? used : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_plan(data, size);
	return 0;
}

#ifndef LIBFUZZER
int main(void)
{
	unsigned long accepted = 0;
	unsigned long refused = 0;
	size_t bytes = 0;
	uint8_t head[4];

	while (fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
		size_t size = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
			      (size_t)head[3] << 24;
		uint8_t *data = malloc(size ? size : 1);
		size_t used;

		if (!data || fread(data, 1, size, stdin) != size) {
			fprintf(stderr, "the stream ends inside a plan\n");
			return 2;
		}
		used = try_plan(data, size);
		bytes += used;
		if (used)
			accepted++;
		else
			refused++;
		free(data);
	}
	printf("accepted %lu refused %lu read %zu\n", accepted, refused, bytes);
	return 0;
}
#endif
