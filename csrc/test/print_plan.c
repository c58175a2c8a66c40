/*
 * print_plan.c - prints an encoded plan as text, by the tables that nsexec itself is built from.
 *
 *	print_plan <PLAN
 *
 * One line an operation: its index, its name, its fields. Strings stand in quotes, with \xNN for what is not printable
 * ASCII and for the quote and the backslash; lists stand in brackets. tests/plan/test_native_tables.py prints the same
 * plan from Python's tables, and compares. Exit status: 1 if nsexec would refuse the plan.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "plan.h"

static void print_string(uint64_t word)
{
	const unsigned char *text = (const unsigned char *)(uintptr_t)word;

	putchar('"');
	for (; *text; text++) {
		if (*text < 0x20 || *text > 0x7e || *text == '"' || *text == '\\')
			printf("\\x%02x", *text);
		else
			putchar(*text);
	}
	putchar('"');
}

static void print_list(uint64_t word, int strings)
{
	const uint64_t *list = (const uint64_t *)(uintptr_t)word;

	putchar('[');
	for (uint64_t i = 1; i <= list[0]; i++) {
		if (i > 1)
			putchar(' ');
		if (strings)
			print_string(list[i]);
		else
			printf("%" PRIu64, list[i]);
	}
	putchar(']');
}

static void print_op(const struct plan *plan, const struct plan_op *op)
{
	const uint64_t *field = (const uint64_t *)(const void *)(plan->base + op->fields);

	printf("%u %s", op->index, op_types[op->code].name);
	for (const char *kind = op_types[op->code].signature; *kind; kind++, field++) {
		putchar(' ');
		if (*kind == 's')
			print_string(*field);
		else if (*kind == 'u')
			printf("%" PRIu64, *field);
		else
			print_list(*field, *kind == 'a');
	}
	putchar('\n');
}

int main(void)
{
	unsigned char *bytes = malloc(PLAN_MAX_BYTES + 1);
	size_t size = bytes ? fread(bytes, 1, PLAN_MAX_BYTES + 1, stdin) : 0;
	struct plan plan;
	uint32_t bad;

	if (!bytes || plan_check(bytes, size, &plan, &bad)) {
		fprintf(stderr, "this is no plan\n");
		return 1;
	}
	for (uint32_t i = 0; i < plan.header.op_count; i++)
		print_op(&plan, &plan.ops[i]);
	free(bytes);
	return 0;
}
