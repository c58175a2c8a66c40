/* wire.c - plan_check: nothing of a plan is used before all of it has been seen to be sound. */

#include <errno.h>

#include "plan.h"

const struct op_type op_types[OP_COUNT] = {
#define OP(code, name, signature) { #name, signature },
	PLAN_OPS(OP)
#undef OP
};

const char *const step_names[STEP_COUNT] = {
#define STEP(code, name) name,
	PLAN_STEPS(STEP)
#undef STEP
};

struct region {
	unsigned char *base;
	size_t size;
};

static int inside(const struct region *plan, uint64_t offset, uint64_t length)
{
	return offset <= plan->size && length <= plan->size - offset;
}

static uint64_t *words(const struct region *plan, uint64_t offset, uint64_t count)
{
	if (offset % 8 || count > PLAN_MAX_BYTES / 8 || !inside(plan, offset, count * 8))
		return NULL;
	return (uint64_t *)(void *)(plan->base + offset);
}

/* The last byte of a plan is NUL, so a string that starts inside it ends inside it. */
static int relocate(const struct region *plan, uint64_t *word)
{
	if (*word >= plan->size)
		return -EPROTO;
	*word = (uint64_t)(uintptr_t)(plan->base + *word);
	return 0;
}

/* A list is relocated where it is met first; the check below refuses one that is met twice. */
static int check_strings(const struct region *plan, uint64_t *field)
{
	uint64_t *list = words(plan, *field, 2);

	if (!list || !words(plan, *field, 2 + (list[0] & 0xffffff)) || list[0] > 0xffffff)
		return -EPROTO;
	for (uint64_t i = 1; i <= list[0]; i++)
		if (relocate(plan, &list[i]))
			return -EPROTO;
	if (list[list[0] + 1] != 0)
		return -EPROTO;
	*field = (uint64_t)(uintptr_t)list;
	return 0;
}

static int check_numbers(const struct region *plan, uint64_t *field)
{
	uint64_t *list = words(plan, *field, 1);

	if (!list || list[0] > 0xffffff || !words(plan, *field, 1 + list[0]))
		return -EPROTO;
	*field = (uint64_t)(uintptr_t)list;
	return 0;
}

/* Fields and lists come in the order of their operations and never overlap: *next only grows. */
static int check_fields(const struct region *plan, const struct plan_op *op, uint64_t *next)
{
	const char *signature = op_types[op->code].signature;
	size_t count = 0;
	uint64_t *fields;

	while (signature[count])
		count++;
	fields = words(plan, op->fields, count);
	if (!fields || op->fields < *next)
		return -EPROTO;
	*next = op->fields + count * 8;
	for (size_t i = 0; i < count; i++) {
		uint64_t offset = fields[i];
		int error = 0;

		if (signature[i] == 's') {
			error = relocate(plan, &fields[i]);
		} else if (signature[i] == 'a' || signature[i] == 'n') {
			if (offset < *next)
				return -EPROTO;
			error = signature[i] == 'a' ? check_strings(plan, &fields[i])
						    : check_numbers(plan, &fields[i]);
			if (!error)
				*next = offset + (*(uint64_t *)(void *)(plan->base + offset) +
						  (signature[i] == 'a' ? 2 : 1)) *
							 8;
		}
		if (error)
			return error;
	}
	return 0;
}

static int check_header(const struct plan_header *header, size_t size)
{
	if (header->magic != PLAN_MAGIC || header->size != size || header->reserved)
		return -EPROTO;
	if (header->op_count == 0 || header->op_count > PLAN_MAX_OPS)
		return -EPROTO;
	if (header->fd_count > PLAN_MAX_FDS || header->preserve_fds > 1U << 16)
		return -EPROTO;
	if (header->gate_slot != UINT32_MAX && header->gate_slot >= header->fd_count)
		return -EPROTO;
	if (header->report_slot != UINT32_MAX && header->report_slot >= header->fd_count)
		return -EPROTO;
	if (header->stamps_slot != UINT32_MAX && header->stamps_slot >= header->fd_count)
		return -EPROTO;
	return (header->gate_slot == UINT32_MAX) == (header->report_slot == UINT32_MAX) ? 0
											: -EPROTO;
}

int plan_check(void *base, size_t size, struct plan *plan, uint32_t *bad)
{
	struct region region = { base, size };
	struct plan_op *ops;
	uint64_t next;

	*bad = UINT32_MAX;
	if (size < sizeof(plan->header) + 8 || size > PLAN_MAX_BYTES || region.base[size - 1] != 0)
		return -EPROTO;
	plan->header = *(struct plan_header *)base;
	if (check_header(&plan->header, size))
		return -EPROTO;
	ops = (struct plan_op *)(void *)words(&region, sizeof(plan->header), plan->header.op_count);
	if (!ops)
		return -EPROTO;
	next = sizeof(plan->header) + plan->header.op_count * sizeof(struct plan_op);
	for (uint32_t i = 0; i < plan->header.op_count; i++) {
		*bad = ops[i].index;
		if (ops[i].code >= OP_COUNT || ops[i].index >= PLAN_MAX_OPS)
			return -EPROTO;
		if (i && ops[i].index <= ops[i - 1].index)
			return -EPROTO;
		if (check_fields(&region, &ops[i], &next))
			return -EPROTO;
	}
	*bad = UINT32_MAX;
	plan->ops = ops;
	plan->base = base;
	return 0;
}
