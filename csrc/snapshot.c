/*
 * snapshot.c - the command starts where the build left off: with the package imported.
 *
 * Starting an interpreter and importing 50 modules takes 40 million instructions, and comes out the same each time. So
 * the build does it once, and adds the memory to the program file, as a section of its own, so that strip(1) leaves it:
 *
 *	pages that differ | struct snapshot, sources, thread-local memory | struct tail
 *
 * At start those pages are mapped copy-on-write, and only what is touched is ever read. It works because all that
 * memory lies at fixed addresses. The program is not position-independent, so types, functions and the
 * interpreter's own variables have theirs. What the interpreter allocates comes, while the snapshot is made, from an
 * area at an address that no kernel gives away by itself (the linker's --wrap brings malloc here). Libraries lie
 * elsewhere each time; the words that the loader relocated for them keep the values of this process, and
 * snapshot_write refuses to keep any other word that points out of the snapshot.
 *
 * For the interpreter it is what a fork is for it: a new thread and a new process with the old memory. What must be
 * as the process is (arguments, environment, where the package lies) embed.c and boot.py bring up to date.
 *
 * A snapshot holds only as long as every source in it has the size noted and is no newer than the command, which
 * installers write last. An edit of an installed module thus takes effect at once.
 */

#include <Python.h>

#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot.h"

#define AREA 0x2000000000UL /* below what the smallest address space of aarch64 has, 512 GiB */
#define AREA_SIZE (256UL << 20)
#define MAX_RUNS 512
#define MAX_KEPT 256
#define SMALLEST 16            /* bytes of memory taken, and of what stands before them */
#define POOL_SIZE (16UL << 10) /* and LARGEST_IN_POOL: of Python's allocator */
#define LARGEST_IN_POOL 512
#define MAGIC 0x70616e73756b6f79UL

struct run_of_pages {
	uint64_t address;
	uint64_t length;
	uint64_t offset; /* in the section */
};

struct snapshot {
	uint64_t page;
	uint64_t runs;
	struct run_of_pages run[MAX_RUNS];
	uint64_t sources; /* bytes that follow */
	uint64_t thread;  /* bytes of thread-local memory, after the sources */
};

struct tail {
	uint64_t magic;
	uint64_t offset; /* of struct snapshot */
};

/* A word that belongs to this process whatever the snapshot says: the loader relocated it. */
struct kept {
	char *at;
	size_t length;
	char value[sizeof(void *)];
};

extern char __data_start[], _end[];

/* Thread-local variables of the program: from Python 3.12 on one of them says which thread of Python runs. */
struct block {
	char *at;
	size_t length;
};

static int making;
static char *top;
static char *pristine;
static void *freed[64];
static void *freed_arena;
static PyObjectArenaAllocator usual_arenas;

/* ---- memory, while a snapshot is made ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *old);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *old);

static int is_in_area(const void *at)
{
	return (uintptr_t)at - AREA < AREA_SIZE;
}

static void *take(size_t size, size_t align)
{
	uintptr_t at = ((uintptr_t)top + align - 1) & ~(align - 1);

	if (size > AREA_SIZE || at + size > AREA + AREA_SIZE)
		return NULL;
	top = (char *)(at + size);
	return (char *)at;
}

/* Blocks have sizes of powers of two, and before them their class: what was freed serves the next of that size. */
static unsigned class_of(size_t size)
{
	return size <= SMALLEST ? 4 : 64 - (unsigned)__builtin_clzl(size - 1);
}

static size_t *head_of(void *block)
{
	return (size_t *)(void *)((char *)block - SMALLEST);
}

void *__wrap_malloc(size_t size)
{
	unsigned class = class_of(size);
	void **block;

	if (!making)
		return __real_malloc(size);
	if (size > AREA_SIZE)
		return NULL;
	block = freed[class];
	if (block) {
		freed[class] = *block;
		return block;
	}
	block = take(((size_t)1 << class) + SMALLEST, SMALLEST);
	if (!block)
		return NULL;
	block += SMALLEST / sizeof(*block);
	*head_of(block) = class;
	return block;
}

void *__wrap_calloc(size_t count, size_t size)
{
	size_t all;
	void *block;

	if (!making)
		return __real_calloc(count, size);
	if (__builtin_mul_overflow(count, size, &all))
		return NULL;
	block = __wrap_malloc(all);
	return block ? memset(block, 0, all) : NULL;
}

void __wrap_free(void *old)
{
	void **block = old;
	unsigned class;

	if (!is_in_area(old)) {
		__real_free(old);
	} else if (making) {
		class = (unsigned)*head_of(old);
		*block = freed[class];
		freed[class] = block;
	}
}

void *__wrap_realloc(void *old, size_t size)
{
	size_t had;
	void *new;

	if (old && !is_in_area(old))
		return __real_realloc(old, size);
	had = old ? (size_t)1 << *head_of(old) : 0;
	if (had >= size && old)
		return old;
	new = __wrap_malloc(size);
	if (!old || !new)
		return new;
	memcpy(new, old, had);
	__wrap_free(old);
	return new;
}

static void *take_arena(void *unused, size_t size)
{
	void *arena = freed_arena;

	(void)unused;
	freed_arena = NULL;
	return arena ? arena : take(size, 1 << 16);
}

static void leave_arena(void *unused, void *arena, size_t size)
{
	(void)unused;
	(void)size;
	freed_arena = arena;
}

/* ---- making one ---- */

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static int give_up(const char *what)
{
	fprintf(stderr, "no snapshot: %s\n", what);
	return -1;
}

int snapshot_begin(void)
{
	static PyObjectArenaAllocator ours = { NULL, take_arena, leave_arena };
	size_t length = (size_t)(_end - __data_start);

	pristine = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pristine == MAP_FAILED)
		return give_up("no memory");
	memcpy(pristine, __data_start, length);
	top = mmap((void *)AREA, AREA_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (top != (void *)AREA)
		return give_up("its area is taken");
	making = 1;
	PyObject_GetArenaAllocator(&usual_arenas);
	PyObject_SetArenaAllocator(&ours);
	return 0;
}

/* The relocated words in our data. Their number, or -1 if that cannot be told. */
static int find_kept(struct kept *kept)
{
	const ElfW(Rela) *relocation = NULL;
	size_t bytes = 0;
	int count = 0;

	for (const ElfW(Dyn) *entry = _DYNAMIC; entry->d_tag != DT_NULL; entry++) {
		if (entry->d_tag == DT_RELA)
			relocation = (const ElfW(Rela) *)entry->d_un.d_ptr;
		else if (entry->d_tag == DT_RELASZ)
			bytes = entry->d_un.d_val;
	}
	for (size_t i = 0; relocation && i < bytes / sizeof(*relocation); i++) {
		char *at = (char *)relocation[i].r_offset;

		if (at < __data_start || at >= _end)
			continue;
		if (count == MAX_KEPT)
			return -1;
		kept[count].at = at;
		/* Copied are pointers only: see the check of all words in snapshot_write. */
		kept[count].length = sizeof(void *);
		memcpy(kept[count].value, at, kept[count].length);
		count++;
	}
	return count;
}

static int is_kept(const struct kept *kept, int count, const char *at)
{
	for (int i = 0; i < count; i++) {
		if (at >= kept[i].at && at < kept[i].at + kept[i].length)
			return 1;
	}
	return 0;
}

/* Whether a word points into anything mapped but the program, the snapshot and what `maps` has not. */
static int points_out(uintptr_t word, const uintptr_t (*maps)[2], int count)
{
	for (int i = 0; i < count; i++) {
		if (word >= maps[i][0] && word < maps[i][1])
			return 1;
	}
	return 0;
}

/* What lies at another address each time: all mappings but the area and the program. */
static int find_maps(uintptr_t (*maps)[2], int most)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[4096];
	int count = 0;

	while (file && count < most && fgets(line, sizeof(line), file)) {
		unsigned long begin;
		unsigned long end;

		if (sscanf(line, "%lx-%lx", &begin, &end) != 2)
			continue;
		if (begin >= (uintptr_t)_end || strstr(line, "[heap]")) {
			if (begin < AREA || begin >= AREA + AREA_SIZE) {
				maps[count][0] = begin;
				maps[count++][1] = end;
			}
		}
	}
	if (file)
		fclose(file);
	return count;
}

static int check_words(char *from, const char *to, const struct kept *kept, int count)
{
	uintptr_t maps[256][2];
	int mapped = find_maps(maps, 256);
	uintptr_t self = (uintptr_t)pthread_self();
	int found = 0;

	for (; from + sizeof(uintptr_t) <= to; from += sizeof(uintptr_t)) {
		uintptr_t word;

		memcpy(&word, from, sizeof(word));
		/* PyOS_AfterFork_Child notes which thread is the main one. */
		if (word == self || !points_out(word, (const uintptr_t(*)[2])maps, mapped))
			continue;
		if (from == (char *)&pristine || is_kept(kept, count, from))
			continue;
		fprintf(stderr, "no snapshot: the word at %p points to %#lx\n", (void *)from,
			(unsigned long)word);
		found++;
	}
	return found || mapped == 0 || mapped == 256 ? -1 : 0;
}

static int note_thread_local(struct dl_phdr_info *program, size_t size, void *data)
{
	struct block *block = data;

	(void)size;
	for (int i = 0; i < program->dlpi_phnum; i++) {
		if (program->dlpi_phdr[i].p_type == PT_TLS) {
			block->at = program->dlpi_tls_data;
			block->length = program->dlpi_phdr[i].p_memsz;
		}
	}
	return 1; /* the program is the first, and its libraries have theirs by themselves */
}

static struct block find_thread_local(void)
{
	struct block found = { NULL, 0 };

	dl_iterate_phdr(note_thread_local, &found);
	return found;
}

static int add_run(struct snapshot *about, uintptr_t from, uintptr_t to)
{
	struct run_of_pages *last = about->runs ? &about->run[about->runs - 1] : NULL;

	/* A page in between costs less than another mapping. */
	if (last && last->address + last->length + 4 * about->page >= from) {
		last->length = to - last->address;
		return 0;
	}
	if (about->runs == MAX_RUNS)
		return -1;
	about->run[about->runs].address = from;
	about->run[about->runs++].length = to - from;
	return 0;
}

static int find_runs(struct snapshot *about)
{
	uintptr_t first = (uintptr_t)__data_start;
	uintptr_t last = (uintptr_t)_end;

	for (uintptr_t from = first; from < last;) {
		uintptr_t to = (from & ~(about->page - 1)) + about->page;

		if (to > last)
			to = last;
		if (memcmp((void *)from, pristine + (from - first), to - from) != 0 &&
		    add_run(about, from, to))
			return -1;
		from = to;
	}
	return add_run(about, AREA, ((uintptr_t)top + about->page - 1) & ~(about->page - 1));
}

/* What Python's functions left on their stack on the way: from Python 3.12 on there are addresses of C's stack in it. */
static void clear_stack(void)
{
	PyThreadState *state = PyThreadState_Get();

	if (state->datastack_top)
		memset(state->datastack_top, 0,
		       (size_t)((char *)state->datastack_limit - (char *)state->datastack_top));
}

/*
 * What is free in pools that are in use lies all over the snapshot, and each page of it that a command's own objects
 * come to lie in would have to be copied. So all of it is used up: Python goes on in pools that nobody has used.
 */
static void use_up_pools(void)
{
	for (size_t size = SMALLEST; size <= LARGEST_IN_POOL; size += SMALLEST) {
		size_t in_order = 0;
		char *last = NULL;

		/* Half a pool in order is a new one: that, too, to its end. */
		while (in_order < POOL_SIZE / 2 / size ||
		       (uintptr_t)last % POOL_SIZE + 2 * size <= POOL_SIZE) {
			char *block = PyObject_Malloc(size);

			in_order = last && block == last + size ? in_order + 1 : 0;
			last = block;
		}
	}
}

int snapshot_write(const char *path, const char *sources, size_t length)
{
	static struct snapshot about;
	struct kept kept[MAX_KEPT];
	int count = find_kept(kept);
	struct block thread = find_thread_local();
	struct tail tail = { .magic = MAGIC };
	FILE *file = fopen(path, "we");
	long end = 0;
	int failed = 0;

	PyType_ClearCache();
	use_up_pools();
	making = 0;
	if (count < 0 || !file)
		return give_up("cannot open it, or too many relocations");
	memset(&about, 0, sizeof(about));
	clear_stack();
	about.page = page_size();
	about.sources = length;
	about.thread = thread.length;
	if (check_words(__data_start, _end, kept, count) ||
	    check_words(thread.at, thread.at + thread.length, kept, count) ||
	    check_words((char *)AREA, top, kept, count) || find_runs(&about))
		return give_up("its memory cannot be kept");
	for (size_t i = 0; i < about.runs; i++) {
		/* Page by page as in memory, so that it can be mapped. */
		uint64_t in_page = about.run[i].address & (about.page - 1);
		uint64_t offset = (((uint64_t)end + about.page - 1) & ~(about.page - 1)) + in_page;

		about.run[i].offset = offset;
		failed |= fseek(file, (long)offset, SEEK_SET);
		failed |= fwrite((void *)about.run[i].address, 1, about.run[i].length, file) !=
			  about.run[i].length;
		end = ftell(file);
	}
	tail.offset = (uint64_t)end;
	failed |= fwrite(&about, sizeof(about), 1, file) != 1;
	failed |= fwrite(sources, 1, length, file) != length;
	failed |= fwrite(thread.at, 1, thread.length, file) != thread.length;
	failed |= fwrite(&tail, sizeof(tail), 1, file) != 1;
	failed |= fclose(file);
	return failed ? give_up("cannot write it") : 0;
}

/* ---- using it ---- */

static int is_not_newer(const struct timespec *one, const struct timespec *other)
{
	return one->tv_sec < other->tv_sec ||
	       (one->tv_sec == other->tv_sec && one->tv_nsec <= other->tv_nsec);
}

static int fit_sources(const char *site, const char *sources, size_t length,
		       const struct stat *command)
{
	int directory = open(site, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *at = sources;
	int fit = directory >= 0 && length > 0 && sources[length - 1] == 0;

	while (fit && at < sources + length) {
		struct stat about;
		uint64_t size;

		memcpy(&size, at, sizeof(size));
		at += sizeof(size);
		fit = fstatat(directory, at, &about, 0) == 0 && (uint64_t)about.st_size == size &&
		      is_not_newer(&about.st_mtim, &command->st_mtim);
		at += strlen(at) + 1;
	}
	if (directory >= 0)
		close(directory);
	return fit;
}

/* begin: of the section in the file. */
static int map(int file, off_t begin, const struct run_of_pages *run, uint64_t page)
{
	off_t offset = begin + (off_t)run->offset;
	uint64_t from = (run->address + page - 1) & ~(page - 1);
	uint64_t end = run->address + run->length;
	uint64_t to = end & ~(page - 1);
	int fixed = run->address == AREA ? MAP_FIXED_NOREPLACE : MAP_FIXED;

	if (from >= to)
		return pread(file, (void *)run->address, run->length, offset) !=
		       (ssize_t)run->length;
	if (mmap((void *)from, to - from, PROT_READ | PROT_WRITE, MAP_PRIVATE | fixed, file,
		 offset + (off_t)(from - run->address)) != (void *)from)
		return 1;
	/* The rest shares its page with what is not ours. */
	return (from > run->address && pread(file, (void *)run->address, from - run->address,
					     offset) != (ssize_t)(from - run->address)) ||
	       (end > to && pread(file, (void *)to, end - to,
				  offset + (off_t)(to - run->address)) != (ssize_t)(end - to));
}

static int map_all(int file, off_t begin, const struct snapshot *about)
{
	struct kept kept[MAX_KEPT];
	int count = find_kept(kept);

	/* The area last was written, and is mapped first: this is all that may fail. */
	if (count < 0 || map(file, begin, &about->run[about->runs - 1], about->page))
		return -1;
	for (size_t i = 0; i + 1 < about->runs; i++) {
		if (map(file, begin, &about->run[i], about->page))
			abort();
	}
	for (int i = 0; i < count; i++) {
		if (memcmp(kept[i].at, kept[i].value, kept[i].length) != 0)
			memcpy(kept[i].at, kept[i].value, kept[i].length);
	}
	return 0;
}

static int is_tail(int file, const ElfW(Shdr) * section, struct tail *tail)
{
	uint64_t end = section->sh_offset + section->sh_size;

	return section->sh_type == SHT_PROGBITS && (section->sh_flags & SHF_ALLOC) == 0 &&
	       section->sh_size > sizeof(*tail) &&
	       pread(file, tail, sizeof(*tail), (off_t)(end - sizeof(*tail))) ==
		       (ssize_t)sizeof(*tail) &&
	       tail->magic == MAGIC && tail->offset < section->sh_size - sizeof(*tail);
}

/* The section that ends in a struct tail. The last ones first: it was added to a finished program. */
static int find_section(int file, ElfW(Shdr) * section, struct tail *tail)
{
	ElfW(Ehdr) program;

	if (pread(file, &program, sizeof(program), 0) != (ssize_t)sizeof(program))
		return -1;
	for (int i = program.e_shnum - 1; i > 0; i--) {
		uint64_t at = program.e_shoff + (uint64_t)i * program.e_shentsize;

		if (pread(file, section, sizeof(*section), (off_t)at) != (ssize_t)sizeof(*section))
			return -1;
		if (is_tail(file, section, tail))
			return 0;
	}
	return -1;
}

static int is_for(const struct snapshot *about, size_t size, off_t begin,
		  const struct block *thread)
{
	return about->runs >= 1 && about->page == page_size() &&
	       (uint64_t)begin % about->page == 0 && about->thread == thread->length &&
	       sizeof(*about) + about->sources + about->thread == size;
}

/* NULL, or why not. */
static const char *restore_from(int file, const char *site)
{
	struct block thread = find_thread_local();
	const char *why = NULL;
	struct snapshot *about;
	struct stat command;
	ElfW(Shdr) section;
	struct tail tail;
	off_t begin;
	size_t size;

	if (fstat(file, &command) || find_section(file, &section, &tail))
		return "there is none in the command";
	begin = (off_t)section.sh_offset;
	size = section.sh_size - sizeof(tail) - tail.offset;
	about = __real_malloc(size);
	if (!about || pread(file, about, size, begin + (off_t)tail.offset) != (ssize_t)size)
		why = "it cannot be read";
	else if (!is_for(about, size, begin, &thread))
		why = "it was made for a machine with pages of another size";
	else if (!fit_sources(site, (char *)(about + 1), about->sources, &command))
		why = "a module was changed after the installation";
	else if (map_all(file, begin, about))
		why = "its addresses are taken";
	else if (thread.length)
		memcpy(thread.at, (char *)(about + 1) + about->sources, thread.length);
	__real_free(about);
	return why;
}

/* The thread of Python that was kept is this one, which for Python has just been born by fork. */
static void adopt_thread(void)
{
	PyThreadState *state = PyThreadState_Get();

	state->thread_id = PyThread_get_thread_ident();
	PyOS_BeforeFork();
	PyOS_AfterFork_Child();
#if PY_VERSION_HEX >= 0x030c0000
	/* Or PyGILState_Ensure would make another one. */
	PyEval_SaveThread();
	state->_status.bound_gilstate = 0;
	PyEval_RestoreThread(state);
#endif
}

const char *snapshot_restore(const char *site)
{
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const char *why = file < 0 ? "the command cannot be read" : restore_from(file, site);

	if (file >= 0)
		close(file);
	if (!why) {
		PyObject_SetArenaAllocator(&usual_arenas);
		adopt_thread();
	}
	return why;
}
