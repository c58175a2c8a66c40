/*
 * embed.c - the interpreter inside the command itself, where the build found a static libpython.
 *
 * Half of a start of Python goes into what most commands never use: the importer for directories, codecs, standard
 * streams. So the interpreter starts in two phases (PyConfig._init_main). In the first it knows what is built in or
 * frozen, and pyocirun/cli/boot.py, which is frozen in here and imports the package's own modules. What needs more calls
 * `complete`, and has the whole of Python from then on.
 */

#include <Python.h>

#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "embed.h"
#include "frozen.h" /* frozen_modules, and _PyImport_Inittab in the place of libpython's: made by setup.py */
#include "snapshot.h"

/* From Python 3.14 on there is one phase. */
#define TWO_PHASES (PY_VERSION_HEX < 0x030e0000)

/* In no header of python3-dev from Python 3.13 on. */
extern const PyConfig *_PyInterpreterState_GetConfig(PyInterpreterState *interpreter);

/*
 * Python 3.13 makes its registry of codecs in the second phase. An earlier one makes it when it is first asked; this one
 * goes through a null pointer then, be it for text that cannot be decoded. So it is made in the first phase.
 */
#if TWO_PHASES && PY_VERSION_HEX >= 0x030d0000
PyStatus __real__PyCodec_InitRegistry(PyInterpreterState *interpreter);
PyStatus __wrap__PyCodec_InitRegistry(PyInterpreterState *interpreter);

PyStatus __wrap__PyCodec_InitRegistry(PyInterpreterState *interpreter)
{
	static int is_made;

	return is_made++ ? PyStatus_Ok() : __real__PyCodec_InitRegistry(interpreter);
}

static int make_codecs(void)
{
	return PyStatus_Exception(__wrap__PyCodec_InitRegistry(PyInterpreterState_Get()));
}
#else
static int make_codecs(void)
{
	return 0;
}
#endif

static int set(PyConfig *config, wchar_t **field, const char *text)
{
	return PyStatus_Exception(PyConfig_SetBytesString(config, field, text));
}

static int add(PyConfig *config, const char *path)
{
	wchar_t *wide = Py_DecodeLocale(path, NULL);
	int failed = !wide || PyStatus_Exception(
				      PyWideStringList_Append(&config->module_search_paths, wide));
	PyMem_RawFree(wide);
	return failed;
}

static int add_paths(PyConfig *config, const char *site)
{
	return add(config, site) || add(config, STDLIB) || add(config, DYNLOAD);
}

/* As `python -I -S` would be, and with nothing left to look for. */
static int configure(PyConfig *config, const char *site, int argc, char **argv, int repeatable)
{
	PyPreConfig before;

	PyPreConfig_InitIsolatedConfig(&before);
	before.utf8_mode = 1;
	if (PyStatus_Exception(Py_PreInitialize(&before)))
		return 1;
	PyConfig_InitIsolatedConfig(config);
	config->site_import = 0;
	config->pathconfig_warnings = 0;
	config->module_search_paths_set = 1;
	config->install_signal_handlers = 0;
	config->use_hash_seed = repeatable;
#if TWO_PHASES
	config->_init_main = 0;
#endif
	return set(config, &config->executable, PYTHON) ||
	       set(config, &config->base_executable, PYTHON) ||
	       set(config, &config->prefix, PREFIX) || set(config, &config->base_prefix, PREFIX) ||
	       set(config, &config->exec_prefix, PREFIX) ||
	       set(config, &config->base_exec_prefix, PREFIX) ||
	       set(config, &config->stdlib_dir, STDLIB) || add_paths(config, site) ||
	       PyStatus_Exception(PyConfig_SetBytesArgv(config, argc, argv));
}

/* For boot.py. Nothing can go on if this fails. */
static PyObject *complete(PyObject *self, PyObject *none)
{
	(void)self;
	(void)none;
#if TWO_PHASES
	PyStatus status = _Py_InitializeMain();

	if (PyStatus_Exception(status))
		Py_ExitStatusException(status);
#endif
	Py_RETURN_NONE;
}

static PyMethodDef complete_method = { "complete", complete, METH_NOARGS,
				       "Start the second phase." };

static PyObject *new_complete(void)
{
	return PyCFunction_New(&complete_method, NULL);
}

static PyObject *list_of(const PyWideStringList *words)
{
	PyObject *list = PyList_New(0);

	for (Py_ssize_t i = 0; list && i < words->length; i++) {
		PyObject *word = PyUnicode_FromWideChar(words->items[i], -1);

		if (!word || PyList_Append(list, word))
			Py_CLEAR(list);
		Py_XDECREF(word);
	}
	return list;
}

/* boot.run(site, stdlib, dynload, argv, magic number of .pyc files, complete, why no snapshot or None) */
static int boot(const PyConfig *config, const char *site, const char *why)
{
	PyObject *module = PyImport_ImportModule("_pyocirun_boot");
	PyObject *argv = list_of(&config->argv);
	PyObject *function = new_complete();
	PyObject *result = NULL;

	if (module && argv && function)
		result = PyObject_CallMethod(module, "run", "sssOlOz", site, STDLIB, DYNLOAD, argv,
					     PYC_MAGIC, function, why);
	if (!result)
		PyErr_Print();
	return 1; /* run does not return */
}

/* The interpreter this was built from has not been replaced since: its library still fits the one linked in here. */
static int is_same_python(void)
{
	struct stat about;

	return stat(PYTHON, &about) == 0 && about.st_size == PYTHON_SIZE &&
	       about.st_mtime == PYTHON_MTIME && access(STDLIB "/os.py", R_OK) == 0;
}

static int raise_interrupt(void *unused)
{
	(void)unused;
	PyErr_SetNone(PyExc_KeyboardInterrupt);
	return -1;
}

static void interrupt(int number)
{
	(void)number;
	Py_AddPendingCall(raise_interrupt, NULL);
}

/*
 * As Python does; its module _signal, which would, needs the second phase. A call that Python begins again after EINTR
 * does not end by the first SIGINT, as it would with _signal: the second one ends the process.
 */
static void handle_signals(void)
{
	struct sigaction action = { .sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND };
	struct sigaction old;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (sigaction(SIGINT, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		sigaction(SIGINT, &action, NULL);
}

/* posix.environ, which the module made when it was imported. */
static int update_environment(void)
{
	PyObject *posix = PyImport_ImportModule("posix");
	PyObject *variables = posix ? PyObject_GetAttrString(posix, "environ") : NULL;
	int failed = !variables;

	if (variables)
		PyDict_Clear(variables);
	for (char **entry = environ; !failed && entry && *entry; entry++) {
		char *equals = strchr(*entry, '=');
		PyObject *name;
		PyObject *value;

		if (!equals)
			continue;
		name = PyBytes_FromStringAndSize(*entry, equals - *entry);
		value = PyBytes_FromString(equals + 1);
		failed = !name || !value || !PyDict_SetDefault(variables, name, value);
		Py_XDECREF(name);
		Py_XDECREF(value);
	}
	Py_XDECREF(variables);
	Py_XDECREF(posix);
	return failed;
}

/* In a snapshot the modules are there, and what they know of the process is what the build was. */
static int update(const char *site, int argc, char **argv)
{
	PyConfig *config =
		(PyConfig *)(uintptr_t)_PyInterpreterState_GetConfig(PyInterpreterState_Get());

	config->module_search_paths.length = 0;
	return add_paths(config, site) ||
	       PyStatus_Exception(PyConfig_SetBytesArgv(config, argc, argv)) ||
	       update_environment();
}

/* repeatable: the same strings have the same hash each time. */
static int start(PyConfig *config, const char *site, int argc, char **argv, int repeatable)
{
	PyImport_FrozenModules = frozen_modules;
	return configure(config, site, argc, argv, repeatable) ||
	       PyStatus_Exception(Py_InitializeFromConfig(config)) || make_codecs();
}

int run_embedded(const char *site, int argc, char **argv)
{
	PyConfig fresh;
	const PyConfig *config = &fresh;
	const char *why;

	if (!is_same_python())
		return -1;
	why = snapshot_restore(site);
	if (!why) {
		if (update(site, argc, argv))
			return -1;
		config = _PyInterpreterState_GetConfig(PyInterpreterState_Get());
	} else if (start(&fresh, site, argc, argv, 0)) {
		return -1;
	}
	handle_signals();
	return boot(config, site, why);
}

int make_snapshot(int argc, char **argv)
{
	PyConfig config;
	PyObject *module;
	PyObject *names;
	PyObject *sources;

	if (argc < 3 || snapshot_begin() || start(&config, argv[1], argc, argv, 1))
		return 1;
	module = PyImport_ImportModule("_pyocirun_boot");
	names = list_of(&config.argv);
	sources = module && names
			  ? PyObject_CallMethod(module, "prepare", "sssNlN", argv[1], STDLIB,
						DYNLOAD, PyList_GetSlice(names, 3, argc), PYC_MAGIC,
						new_complete())
			  : NULL;
	if (!sources) {
		PyErr_Print();
		return 1;
	}
	/* Not by Py_Finalize: nothing is worth tearing down. */
	_exit(snapshot_write(argv[2], PyBytes_AS_STRING(sources),
			     (size_t)PyBytes_GET_SIZE(sources)) != 0);
}
