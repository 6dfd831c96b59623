/* The stamping core in C: the same as `_core_python.py`, which is the specification.

What is rare is left to the Python object `incidents`: new names, wrong calls, frames that are
rejected or slow, and waiting for space. Between drawing a sequence number and the end of its row no
Python code runs, so that the rows of one process are written one after the other.

Memory order. A row of the ring, and the slot of a frame in flight, are read by other threads and
processes while they are written. A writer stores `begin`, then a release fence, then the fields,
then `seq` with release order. A reader copies `seq`, then the row, then `begin`, and drops the row
unless all of them agree. If it copied a field of a newer row, then its copy of `begin`, which is
later, is that of the newer row as well, because of the fence. If it copied the new `seq`, it copied
no older field, because of the release order. This needs a reader that does not reorder its copies.
Processors with strong order (x86) do not; for others (ARM) numpy issues no fence, and this is not
tested. A kill needs no order between processors: what was stored before it stays in the file.

A slot is valid if its `begin` is not 0: that is stored last, with release order, and set to 0
before anything else when the slot is given back. A stamp is one aligned store of 8 bytes.

Threads. The interpreter lock protects all state. The module does not declare that it runs without
the lock, so that free-threaded builds of CPython turn the lock on when they import it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <stdint.h>
#include <structmember.h>
#include <time.h>

#define NO_SIZE UINT32_MAX

/* frames that a core keeps for reuse; a run has 2**6 ids, see latprof.recorder.sampling */
enum { FREE_FRAMES = 64, RUN_BITS = 6 };

enum { BAD_ID = 1, BAD_SIZE = 2, BAD_STAMP = 4 }; /* why a row is rejected: the lowest bit */

typedef struct Frame Frame;

typedef struct {
    int begin, end; /* numbers of marks */
    long long ns;
} Limit;

typedef struct {
    PyObject_HEAD
    Py_buffer rows, slots;
    Py_ssize_t words; /* of 8 bytes in a row */
    long long capacity, stamp_limit;
    int mark_count, tag_count, start_at, end_at, limit_count, clock_id;
    PyObject *marks, *tags; /* tuples of interned names */
    char *owned;            /* by number of the mark */
    Limit *limits;
    PyObject *clock, *current, *incidents, *codes; /* codes of the sources, and of each tag */
    int32_t *free_slots;
    Py_ssize_t free_slot_count;
    Frame *free_frames[FREE_FRAMES];
    int free_frame_count;
    uint64_t sampled_below;
    /* read or set from Python */
    char open, begun, waits, samples;
    long long limit;
    unsigned long long started, skipped, drawn, refused, unprotected, tombstones, rss;
    double cpu;
    PyObject *dropped;
} Core;

typedef struct { /* the fields of a row before it is written */
    uint64_t id;
    int64_t *stamps;
    uint32_t *tags;
    uint32_t size, source, outcome, weight;
    int bad;
    PyObject *bad_id; /* what was given as the id, for the log; borrowed, except in a frame */
} Row;

struct Frame {
    PyObject_VAR_HEAD
    Core *core; /* NULL in the frame that does nothing */
    PyObject *outer, *token;
    int32_t slot; /* or -1 */
    char finished, entered;
    Row row;
    int64_t stamps[1]; /* of all marks, and behind them the tags */
};

static PyTypeObject FrameType;
static Frame *no_frame;

/* -- arguments and names ---------------------------------------------------------------------- */

/* Set `values` to the arguments of a call. Those that are missing, or None and not required, become
   NULL. Return -1 with a TypeError if the arguments do not fit. */
static int parse(const char *function, const char *const *names, int required, int positional,
                 PyObject *const *args, Py_ssize_t count, PyObject *keywords, PyObject **values) {
    for (int i = 0; names[i]; i++)
        values[i] = i < count && i < positional ? args[i] : NULL;
    for (Py_ssize_t k = 0; keywords && k < PyTuple_GET_SIZE(keywords); k++) {
        PyObject *name = PyTuple_GET_ITEM(keywords, k);
        int i = 0;
        while (names[i] && PyUnicode_CompareWithASCIIString(name, names[i]) != 0)
            i++;
        if (!names[i] || values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() got %s argument '%U'", function,
                         names[i] ? "multiple values for" : "an unexpected", name);
            return -1;
        }
        values[i] = args[count + k];
    }
    for (int i = 0; names[i]; i++) {
        if (count > positional || (i < required && !values[i])) {
            PyErr_Format(PyExc_TypeError, "%s() takes %d to %d positional arguments (%zd given)",
                         function, required, positional, count);
            return -1;
        }
        if (values[i] == Py_None && i >= required)
            values[i] = NULL;
    }
    return 0;
}

/* Return the number of a name in a tuple of interned names, or -1. */
static int find(PyObject *names, PyObject *name) {
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < count; i++)
        if (PyTuple_GET_ITEM(names, i) == name)
            return (int)i;
    for (Py_ssize_t i = 0; PyUnicode_Check(name) && i < count; i++)
        if (PyUnicode_Compare(PyTuple_GET_ITEM(names, i), name) == 0)
            return (int)i;
    return -1;
}

/* Raise the exception that a method of `incidents` returns. */
static PyObject *raise_error(Core *core, const char *method, PyObject *argument) {
    PyObject *error = PyObject_CallMethod(core->incidents, method, "(O)", argument);
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return NULL;
}

/* Count a call that is ignored; return None. */
static PyObject *problem(Core *core, const char *what, PyObject *name) {
    return PyObject_CallMethod(core->incidents, "problem", "sO", what, name);
}

/* Convert a code, and release it; return -1 with an error. */
static int64_t as_code(PyObject *code) {
    int64_t number = code ? PyLong_AsLongLong(code) : -1;
    Py_XDECREF(code);
    return number;
}

/* Return the code of a text that is known, or -1. */
static int64_t known_code(PyObject *codes, PyObject *text) {
    PyObject *code = PyUnicode_CheckExact(text) ? PyDict_GetItemWithError(codes, text) : NULL;
    return as_code(Py_XNewRef(code));
}

static int64_t source_code(Core *core, PyObject *source) {
    int64_t code = source ? known_code(PyTuple_GET_ITEM(core->codes, 0), source) : 0;
    if (code < 0 && !PyErr_Occurred())
        code = as_code(PyObject_CallMethod(core->incidents, "source", "(O)", source));
    return code;
}

/* Set one tag of a row; return its number, or -1. */
static int set_tag(Core *core, Row *row, PyObject *name, PyObject *value) {
    int index = find(core->tags, name);
    if (index < 0) {
        raise_error(core, "unknown_tag", name);
        return -1;
    }
    PyObject *text = PyLong_CheckExact(value) ? PyObject_Str(value) : Py_NewRef(value);
    int64_t code = -1;
    if (text)
        code = value == Py_None ? 0 : known_code(PyTuple_GET_ITEM(core->codes, 1 + index), text);
    PyErr_Clear(); /* of an integer with too many digits */
    if (code < 0)
        code = as_code(PyObject_CallMethod(core->incidents, "tag", "iO", index, value));
    Py_XDECREF(text);
    row->tags[index] = (uint32_t)code;
    return code < 0 ? -1 : index;
}

static int set_tags(Core *core, Row *row, PyObject *tags) {
    PyObject *name, *value;
    Py_ssize_t at = 0;
    if (tags && !PyDict_Check(tags)) {
        raise_error(core, "wrong_tags", tags);
        return -1;
    }
    while (tags && PyDict_Next(tags, &at, &name, &value)) {
        Py_INCREF(name);
        Py_INCREF(value);
        int index = set_tag(core, row, name, value);
        Py_DECREF(name);
        Py_DECREF(value);
        if (index < 0)
            return -1;
    }
    return 0;
}

/* -- numbers and stamps ----------------------------------------------------------------------- */

/* Set `number` to an integer from 0 to `most`. Return 0, 1 if the value is not such an integer, or
   -1 with an error if the conversion was interrupted. */
static int as_number(PyObject *value, uint64_t most, uint64_t *number) {
    PyObject *integer = PyLong_CheckExact(value) ? Py_NewRef(value) : PyNumber_Index(value);
    *number = integer ? PyLong_AsUnsignedLongLong(integer) : 0;
    Py_XDECREF(integer);
    if (!PyErr_Occurred())
        return *number > most;
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Clear();
    return 1;
}

/* Set `stamp` to the value, or to -1 if it is invalid, which rejects the row. */
static int as_stamp(Core *core, Row *row, PyObject *value, int64_t *stamp) {
    uint64_t number;
    int wrong = as_number(value, (uint64_t)core->stamp_limit - 1, &number);
    *stamp = wrong ? -1 : (int64_t)number;
    row->bad |= wrong ? BAD_STAMP : 0;
    return wrong < 0 ? -1 : 0;
}

static int read_clock(Core *core, Row *row, int64_t *stamp) {
    if (core->clock_id >= 0) {
        struct timespec now;
        clock_gettime((clockid_t)core->clock_id, &now);
        *stamp = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
        return 0;
    }
    PyObject *value = PyObject_CallNoArgs(core->clock);
    int failed = value ? as_stamp(core, row, value, stamp) : -1;
    Py_XDECREF(value);
    return failed;
}

/* Return whether a frame is recorded: the profiler runs, and the frame's run of ids is sampled. If
   not, count the frame. Return -1 with an error. */
static int is_recorded(Core *core, PyObject *frame_id, PyObject *source) {
    if (!core->open && !core->begun) {
        PyObject *done = PyObject_CallMethod(core->incidents, "unstarted", NULL);
        Py_XDECREF(done);
        return done ? 0 : -1;
    }
    if (!core->open || !core->samples)
        return core->open;
    uint64_t id, hash = 0xCBF29CE484222325;
    int wrong = as_number(frame_id, UINT64_MAX, &id);
    if (wrong)
        return wrong < 0 ? -1 : 1; /* an invalid id is rejected later */
    PyObject *name = NULL;
    const char *text = source ? NULL : "";
    Py_ssize_t length = 0;
    if (source && PyUnicode_Check(source) && !(text = PyUnicode_AsUTF8AndSize(source, &length)))
        PyErr_Clear(); /* half of a surrogate pair */
    if (!text) {
        name = PyObject_CallMethod(core->incidents, "encoded", "(O)", source);
        if (!name || PyBytes_AsStringAndSize(name, (char **)&text, &length) < 0)
            return -1;
    }
    for (Py_ssize_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3;
    Py_XDECREF(name);
    uint64_t z = ((id >> RUN_BITS) ^ hash) + 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    int sampled = (z ^ z >> 31) < core->sampled_below;
    core->skipped += !sampled;
    return sampled;
}

/* -- rows ------------------------------------------------------------------------------------- */

static void store(uint64_t *word, uint64_t value, memory_order order) {
    atomic_store_explicit((_Atomic uint64_t *)word, value, order);
}

/* Write a row, with a number as `begin` and `seq`; a slot gets 0 and, as `rss`, the thread's id. */
static void store_row(Core *core, uint64_t *words, uint64_t number, const Row *row, uint64_t rss) {
    store(words, number, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    words[1] = row->id;
    memcpy(words + 2, row->stamps, 8 * (size_t)core->mark_count);
    words[2 + core->mark_count] = rss;
    uint32_t *halves = (uint32_t *)(words + 3 + core->mark_count);
    halves[0] = row->size;
    halves[1] = row->source | row->outcome << 16;
    memcpy(halves + 2, &(float){(float)core->cpu}, 4);
    halves[3] = row->weight;
    memcpy(halves + 4, row->tags, 4 * (size_t)core->tag_count);
    if (core->tag_count % 2)
        halves[4 + core->tag_count] = 0;
    store(words + core->words - 1, number, memory_order_release);
}

/* Draw the next number and write a row under it; `slot` is that of the frame, or -1. */
static void commit_row(Core *core, const Row *row, int32_t slot) {
    uint64_t number = ++core->drawn, place = (number - 1) % (uint64_t)core->capacity;
    if (slot >= 0)
        store((uint64_t *)core->slots.buf + (slot + 1) * core->words - 1, number,
              memory_order_release);
    store_row(core, (uint64_t *)core->rows.buf + place * (uint64_t)core->words, number, row,
              core->rss);
}

static int count_dropped(Core *core, uint32_t outcome) {
    PyObject *code = PyLong_FromUnsignedLong(outcome);
    PyObject *before = code ? PyDict_GetItemWithError(core->dropped, code) : NULL;
    PyObject *after = PyLong_FromLongLong(before ? PyLong_AsLongLong(before) + 1 : 1);
    int failed = code && after && !PyErr_Occurred() ? PyDict_SetItem(core->dropped, code, after) : -1;
    Py_XDECREF(code);
    Py_XDECREF(after);
    return failed;
}

/* Return the id of a frame as it was given. */
static PyObject *given_id(const Row *row) {
    return row->bad_id ? Py_NewRef(row->bad_id) : PyLong_FromUnsignedLongLong(row->id);
}

/* Count a rejected frame, and write its tombstone if the ring has space. */
static int reject(Core *core, const Row *row) {
    int reason = row->bad & BAD_ID ? 0 : row->bad & BAD_SIZE ? 1 : 2;
    int64_t outcome = as_code(
        PyObject_CallMethod(core->incidents, "rejected", "iN", reason, given_id(row)));
    if (outcome < 0 || core->drawn >= (uint64_t)core->limit)
        return outcome < 0 ? -1 : 0;
    uint64_t *none = PyMem_Calloc((size_t)core->words, 8); /* neither stamps nor tags */
    if (!none) {
        PyErr_NoMemory();
        return -1;
    }
    Row tombstone = *row; /* the frame itself keeps its stamps, for its repr */
    tombstone.stamps = (int64_t *)none;
    tombstone.tags = (uint32_t *)(none + core->mark_count);
    tombstone.size = NO_SIZE;
    tombstone.weight = 0;
    tombstone.outcome = (uint32_t)outcome;
    core->tombstones++;
    commit_row(core, &tombstone, -1);
    PyMem_Free(none);
    return 0;
}

static int check_limits(Core *core, const Row *row) {
    for (int i = 0; i < core->limit_count; i++) {
        int64_t begin = row->stamps[core->limits[i].begin], end = row->stamps[core->limits[i].end];
        if (!begin || !end || end - begin <= core->limits[i].ns)
            continue;
        PyObject *done = PyObject_CallMethod(core->incidents, "slow", "KILi",
                                             (unsigned long long)row->id, row->source,
                                             (long long)(end - begin), i);
        Py_XDECREF(done);
        if (!done)
            return -1;
    }
    return 0;
}

/* Write a row under the next number; if the ring has no space, wait if that is allowed. */
static int write_row(Core *core, Row *row, int32_t slot) {
    if (row->bad)
        return reject(core, row);
    int waited = 1;
    while (core->drawn >= (uint64_t)core->limit && waited) {
        PyObject *found =
            core->waits ? PyObject_CallMethod(core->incidents, "wait", "(O)", core) : NULL;
        waited = found && PyObject_IsTrue(found) > 0;
        Py_XDECREF(found);
    }
    if (waited)
        commit_row(core, row, slot);
    else
        core->refused++;
    if (PyErr_Occurred() || (row->outcome && count_dropped(core, row->outcome) < 0))
        return -1;
    return waited ? check_limits(core, row) : 0;
}

/* Set the fields of a new row that the arguments of `frame` and `record` give. */
static int begin_row(Core *core, Row *row, PyObject *id, PyObject *size, PyObject *source,
                     PyObject *tags) {
    memset(row->stamps, 0, 8 * (size_t)core->mark_count);
    memset(row->tags, 0, 4 * (size_t)core->tag_count);
    row->outcome = row->source = 0;
    row->size = NO_SIZE;
    row->weight = 1;
    int64_t code = source_code(core, source);
    row->source = (uint32_t)code;
    int wrong = as_number(id, UINT64_MAX, &row->id);
    row->bad = wrong ? BAD_ID : 0;
    row->bad_id = wrong ? id : NULL;
    row->id = wrong ? 0 : row->id;
    if (wrong >= 0 && size) {
        uint64_t number;
        wrong = as_number(size, NO_SIZE, &number);
        row->size = wrong ? NO_SIZE : (uint32_t)number;
        row->bad |= wrong ? BAD_SIZE : 0;
    }
    return code < 0 || wrong < 0 ? -1 : set_tags(core, row, tags);
}

/* -- frames ----------------------------------------------------------------------------------- */

static Frame *new_frame(Core *core) {
    Py_ssize_t items = core->mark_count + (core->tag_count + 1) / 2;
    Frame *frame;
    if (core->free_frame_count) {
        frame = core->free_frames[--core->free_frame_count];
        PyObject_InitVar((PyVarObject *)frame, &FrameType, items);
    } else if (!(frame = PyObject_NewVar(Frame, &FrameType, items)))
        return NULL;
    frame->core = (Core *)Py_NewRef(core);
    frame->outer = frame->token = frame->row.bad_id = NULL;
    frame->slot = -1;
    frame->finished = frame->entered = 0;
    frame->row.stamps = frame->stamps;
    frame->row.tags = (uint32_t *)(frame->stamps + core->mark_count);
    return frame;
}

static uint64_t *slot_of(Frame *frame) {
    return (uint64_t *)frame->core->slots.buf + frame->slot * frame->core->words;
}

/* Give a frame a free slot, if there is one, with its fields; the number, last, makes it valid. */
static void take_slot(Frame *frame, uint64_t number) {
    Core *core = frame->core;
    core->unprotected += !core->free_slot_count;
    if (!core->free_slot_count || frame->row.bad)
        return;
    frame->slot = core->free_slots[--core->free_slot_count];
    store_row(core, slot_of(frame), 0, &frame->row, PyThread_get_thread_native_id());
    store(slot_of(frame), number, memory_order_release);
}

static void free_slot(Frame *frame) {
    if (frame->slot < 0)
        return;
    if (frame->core->open)
        store(slot_of(frame), 0, memory_order_release);
    frame->core->free_slots[frame->core->free_slot_count++] = frame->slot;
    frame->slot = -1;
}

static void frame_dealloc(Frame *frame) {
    Core *core = frame->core;
    Py_CLEAR(frame->outer);
    Py_CLEAR(frame->token);
    Py_CLEAR(frame->row.bad_id);
    if (core)
        free_slot(frame); /* of a frame that is given up without an end */
    if (core && core->free_frame_count < FREE_FRAMES)
        core->free_frames[core->free_frame_count++] = frame;
    else
        PyObject_Free(frame);
    Py_XDECREF(core);
}

/* Stamp a mark with a given time, or with the current time if `at` is NULL. */
static int stamp_mark(Frame *frame, int mark, PyObject *at) {
    int64_t stamp;
    Core *core = frame->core;
    Row *row = &frame->row;
    if ((at ? as_stamp(core, row, at, &stamp) : read_clock(core, row, &stamp)) < 0)
        return -1;
    frame->stamps[mark] = stamp;
    if (stamp > 0 && frame->slot >= 0 && core->open) /* it is not open in the child of a fork */
        store(slot_of(frame) + 2 + mark, (uint64_t)stamp, memory_order_relaxed);
    return 0;
}

static PyObject *frame_mark(Frame *frame, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords) {
    static const char *const names[] = {"name", "at", NULL};
    PyObject *values[2];
    if (parse("mark", names, 1, 2, args, count, keywords, values) < 0)
        return NULL;
    Core *core = frame->core;
    if (!core)
        Py_RETURN_NONE;
    int mark = find(core->marks, values[0]);
    if (mark < 0 || !core->owned[mark])
        return raise_error(core, "unknown_mark", values[0]);
    if (frame->finished)
        return problem(core, "mark after finish", values[0]);
    if (frame->stamps[mark])
        return problem(core, "mark set twice", values[0]);
    return stamp_mark(frame, mark, values[1]) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *frame_tag(Frame *frame, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords) {
    static const char *const names[] = {"name", "value", NULL};
    PyObject *values[2];
    if (parse("tag", names, 2, 2, args, count, keywords, values) < 0)
        return NULL;
    Core *core = frame->core;
    if (!core)
        Py_RETURN_NONE;
    if (frame->finished && find(core->tags, values[0]) >= 0)
        return problem(core, "tag after finish", values[0]);
    int index = set_tag(core, &frame->row, values[0], values[1]);
    if (index >= 0 && frame->slot >= 0 && core->open)
        ((uint32_t *)(slot_of(frame) + 5 + core->mark_count))[index] = frame->row.tags[index];
    return index < 0 ? NULL : Py_NewRef(Py_None);
}

/* Write the row of a frame, once. `reason` is that of a drop, or NULL. */
static PyObject *commit(Frame *frame, const char *twice, PyObject *reason) {
    Core *core = frame->core;
    int is_open = core->open;
    if (is_open && reason) {
        int64_t outcome = as_code(PyObject_CallMethod(core->incidents, "outcome", "(O)", reason));
        if (outcome < 0)
            return NULL;
        frame->row.outcome = (uint32_t)outcome;
    }
    if (frame->finished) /* by another thread or a signal handler meanwhile */
        return problem(core, twice, Py_None);
    frame->finished = 1;
    PyObject *done;
    if (is_open)
        done = write_row(core, &frame->row, frame->slot) < 0 ? NULL : Py_NewRef(Py_None);
    else
        done = PyObject_CallMethod(core->incidents, "late", NULL);
    free_slot(frame);
    return done;
}

static PyObject *end_frame(Frame *frame, PyObject *at, PyObject *reason) {
    Core *core = frame->core;
    const char *twice = reason ? "drop after finish" : "finish after finish";
    if (!core)
        Py_RETURN_NONE;
    if (frame->finished)
        return problem(core, twice, Py_None);
    int end = core->end_at, is_owned = core->owned[end];
    PyObject *name = PyTuple_GET_ITEM(core->marks, end), *done = NULL;
    if (at && !is_owned)
        return raise_error(core, "unknown_mark", name);
    if (at && frame->stamps[end]) {
        if (!(done = problem(core, "mark set twice", name)))
            return NULL;
        Py_DECREF(done);
    } else if (is_owned && !frame->stamps[end] && stamp_mark(frame, end, at) < 0) {
        /* the clock has raised: the frame would stay in flight for ever */
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        frame->row.bad |= BAD_STAMP;
        done = commit(frame, twice, reason);
        Py_XDECREF(done);
        PyErr_Restore(type, error, traceback);
        return NULL;
    }
    return commit(frame, twice, reason);
}

static PyObject *frame_finish(Frame *frame, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
    static const char *const names[] = {"at", NULL};
    PyObject *at;
    if (parse("finish", names, 0, 1, args, count, keywords, &at) < 0)
        return NULL;
    return end_frame(frame, at, NULL);
}

static PyObject *frame_drop(Frame *frame, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords) {
    static const char *const names[] = {"reason", "at", NULL};
    PyObject *values[2];
    if (parse("drop", names, 1, 2, args, count, keywords, values) < 0)
        return NULL;
    return end_frame(frame, values[1], values[0]);
}

static PyObject *frame_stamp(Frame *frame, PyObject *args) {
    int mark, once;
    if (!PyArg_ParseTuple(args, "ip:stamp", &mark, &once))
        return NULL;
    if (frame->finished || mark < 0 || mark >= frame->core->mark_count ||
        (once && frame->stamps[mark]))
        Py_RETURN_NONE;
    return stamp_mark(frame, mark, NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *frame_enter(Frame *frame, PyObject *Py_UNUSED(ignored)) {
    Core *core = frame->core;
    if (core && core->current && !frame->entered) {
        frame->entered = 1;
        if (PyContextVar_Get(core->current, NULL, &frame->outer) < 0 ||
            !(frame->token = PyContextVar_Set(core->current, (PyObject *)frame)))
            return NULL;
    }
    return Py_NewRef(frame);
}

static PyObject *frame_exit(Frame *frame, PyObject *const *args, Py_ssize_t count) {
    if (frame->token && PyContextVar_Reset(frame->core->current, frame->token) < 0)
        PyErr_Clear(); /* the block is left in another context than it was entered in */
    Py_CLEAR(frame->token);
    Py_CLEAR(frame->outer);
    if (frame->finished)
        Py_RETURN_NONE;
    if (count < 1 || args[0] == Py_None)
        return end_frame(frame, NULL, NULL);
    PyObject *name = PyObject_GetAttrString(args[0], "__name__");
    PyObject *done = name ? end_frame(frame, NULL, name) : NULL;
    Py_XDECREF(name);
    return done;
}

static int frame_bool(Frame *frame) { return frame->core != NULL; }

static PyObject *frame_repr(Frame *frame) {
    if (!frame->core)
        return PyUnicode_FromString("<no frame>");
    return PyObject_CallMethod(frame->core->incidents, "described", "NIiy#", given_id(&frame->row),
                               frame->row.source, frame->finished, frame->stamps,
                               8 * (Py_ssize_t)frame->core->mark_count);
}

/* -- the core --------------------------------------------------------------------------------- */

static PyObject *core_frame(Core *core, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords) {
    static const char *const names[] = {"frame_id", "size", "source", "start", "tags", NULL};
    PyObject *values[5];
    if (parse("frame", names, 1, 3, args, count, keywords, values) < 0)
        return NULL;
    int recorded = is_recorded(core, values[0], values[2]);
    if (recorded <= 0)
        return recorded ? NULL : Py_NewRef(no_frame);
    PyObject *start = values[3];
    int start_at = core->start_at, is_owned = core->owned[start_at];
    if (start && !is_owned)
        return raise_error(core, "unknown_mark", PyTuple_GET_ITEM(core->marks, start_at));
    Frame *frame = new_frame(core);
    if (!frame)
        return NULL;
    int failed = begin_row(core, &frame->row, values[0], values[1], values[2], values[4]);
    Py_XINCREF(frame->row.bad_id);
    if (failed || (is_owned && stamp_mark(frame, start_at, start) < 0)) {
        Py_DECREF(frame);
        return NULL;
    }
    core->started++;
    if (core->slots.buf && core->open)
        take_slot(frame, core->started);
    return (PyObject *)frame;
}

static PyObject *core_record(Core *core, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords) {
    static const char *const names[] = {"frame_id", "stamps", "size", "source", "tags", NULL};
    PyObject *values[5];
    if (parse("record", names, 2, 4, args, count, keywords, values) < 0)
        return NULL;
    PyObject *stamps = PyTuple_CheckExact(values[1])
                           ? Py_NewRef(values[1])
                           : PyObject_CallMethod(core->incidents, "as_tuple", "(O)", values[1]);
    if (!stamps)
        return NULL;
    if (PyTuple_GET_SIZE(stamps) != core->mark_count)
        raise_error(core, "wrong_length", stamps);
    int recorded = PyErr_Occurred() ? -1 : is_recorded(core, values[0], values[3]);
    if (recorded <= 0) {
        Py_DECREF(stamps);
        return recorded ? NULL : Py_NewRef(Py_None);
    }
    int64_t numbers[core->mark_count];
    uint32_t codes[core->tag_count + 1];
    Row row = {.stamps = numbers, .tags = codes};
    PyObject *done = NULL;
    int failed = begin_row(core, &row, values[0], values[2], values[3], values[4]);
    for (int i = 0; !failed && i < core->mark_count; i++) {
        failed = as_stamp(core, &row, PyTuple_GET_ITEM(stamps, i), &numbers[i]);
        if (!failed && !core->owned[i] && numbers[i]) {
            raise_error(core, "unknown_mark", PyTuple_GET_ITEM(core->marks, i));
            failed = -1;
        }
    }
    core->started += !failed;
    if (!failed && write_row(core, &row, -1) == 0)
        done = Py_NewRef(Py_None);
    Py_DECREF(stamps);
    return done;
}

/* Write rows, whose fields are complete except for their numbers; return how many the limit allows. */
static PyObject *core_write_rows(Core *core, PyObject *given) {
    Py_buffer rows;
    if (PyObject_GetBuffer(given, &rows, PyBUF_SIMPLE) < 0)
        return NULL;
    long long count = rows.len / 8 / core->words, space = core->limit - (long long)core->drawn;
    const uint64_t *row = rows.buf;
    count = Py_MAX(0, Py_MIN(count, space));
    for (long long i = 0; i < count; i++, row += core->words) {
        uint64_t number = ++core->drawn, place = (number - 1) % (uint64_t)core->capacity;
        uint64_t *words = (uint64_t *)core->rows.buf + place * (uint64_t)core->words;
        store(words, number, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        memcpy(words + 1, row + 1, 8 * (size_t)(core->words - 2));
        store(words + core->words - 1, number, memory_order_release);
    }
    PyBuffer_Release(&rows);
    return PyLong_FromLongLong(count);
}

static PyObject *core_start(Core *core, PyObject *Py_UNUSED(ignored)) {
    /* some slots were given back after a stop, when nothing is written */
    for (Py_ssize_t i = 0; i < core->free_slot_count; i++)
        store((uint64_t *)core->slots.buf + core->free_slots[i] * core->words, 0,
              memory_order_release);
    core->open = core->begun = 1;
    Py_RETURN_NONE;
}

static PyObject *core_stop(Core *core, PyObject *Py_UNUSED(ignored)) {
    core->open = 0;
    Py_RETURN_NONE;
}

/* Allocate and fill what depends on the arguments; return -1 with an error. */
static int set_up(Core *core, PyObject *rows, PyObject *slots, PyObject *owned, PyObject *limits) {
    Py_ssize_t marks = PyTuple_GET_SIZE(core->marks), count = PyTuple_GET_SIZE(limits);
    core->mark_count = (int)marks;
    core->tag_count = (int)PyTuple_GET_SIZE(core->tags);
    core->words = 6 + marks + (core->tag_count + 1) / 2;
    if (PyObject_GetBuffer(rows, &core->rows, PyBUF_WRITABLE) < 0 ||
        (slots != Py_None && PyObject_GetBuffer(slots, &core->slots, PyBUF_WRITABLE) < 0))
        return -1;
    core->free_slot_count = core->slots.len / 8 / core->words;
    core->free_slots = PyMem_Calloc((size_t)core->free_slot_count + 1, sizeof(int32_t));
    core->owned = PyMem_Calloc((size_t)marks, 1);
    core->limits = PyMem_Calloc((size_t)count + 1, sizeof(Limit));
    if (!core->dropped || !core->free_slots || !core->owned || !core->limits)
        return -1;
    for (Py_ssize_t i = 0; i < core->free_slot_count; i++)
        core->free_slots[i] = (int32_t)(core->free_slot_count - 1 - i);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(owned); i++)
        core->owned[find(core->marks, PyTuple_GET_ITEM(owned, i))] = 1;
    for (Limit *limit = core->limits; core->limit_count < count; limit++)
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(limits, core->limit_count++), "iiL", &limit->begin,
                              &limit->end, &limit->ns))
            return -1;
    if (core->rows.len / 8 / core->words < core->capacity) {
        PyErr_SetString(PyExc_ValueError, "rows must have space for `capacity` rows");
        return -1;
    }
    return 0;
}

static PyObject *core_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"", "", "capacity", "marks", "owned", "start_at", "end_at", "tags",
                            "clock", "clock_id", "stamp_limit", "sampled_below", "limits", "waits",
                            "current", "incidents", "codes", NULL};
    Core *core = (Core *)type->tp_alloc(type, 0);
    PyObject *rows, *slots, *owned, *below, *limits, *current, *kept[5] = {NULL};
    int waits;
    if (!core ||
        !PyArg_ParseTupleAndKeywords(
            args, keywords, "OO$LO!O!iiO!OiLOO!pOOO!:Core", names, &rows, &slots,
            &core->capacity, &PyTuple_Type, &kept[0], &PyTuple_Type, &owned, &core->start_at,
            &core->end_at, &PyTuple_Type, &kept[1], &kept[2], &core->clock_id, &core->stamp_limit,
            &below, &PyTuple_Type, &limits, &waits, &current, &kept[3], &PyTuple_Type,
            &kept[4])) {
        Py_XDECREF(core);
        return NULL;
    }
    PyObject **places[] = {&core->marks, &core->tags, &core->clock, &core->incidents, &core->codes};
    for (int i = 0; i < 5; i++)
        *places[i] = Py_NewRef(kept[i]);
    core->current = current == Py_None ? NULL : Py_NewRef(current);
    core->dropped = PyDict_New();
    core->cpu = Py_NAN;
    core->limit = INT64_MAX;
    core->waits = (char)waits;
    core->sampled_below = PyLong_AsUnsignedLongLong(below);
    core->samples = !PyErr_Occurred(); /* 2**64, which samples all, is too large */
    PyErr_Clear();
    if (set_up(core, rows, slots, owned, limits) < 0)
        Py_CLEAR(core);
    return (PyObject *)core;
}

static int core_traverse(Core *core, visitproc visit, void *arg) {
    Py_VISIT(core->clock);
    Py_VISIT(core->current);
    Py_VISIT(core->incidents);
    Py_VISIT(core->codes);
    Py_VISIT(core->dropped);
    return 0;
}

static int core_clear(Core *core) {
    Py_CLEAR(core->clock);
    Py_CLEAR(core->current);
    Py_CLEAR(core->incidents);
    Py_CLEAR(core->codes);
    Py_CLEAR(core->dropped);
    return 0;
}

static void core_dealloc(Core *core) {
    PyObject_GC_UnTrack(core);
    core_clear(core);
    Py_CLEAR(core->marks);
    Py_CLEAR(core->tags);
    while (core->free_frame_count)
        PyObject_Free(core->free_frames[--core->free_frame_count]);
    PyMem_Free(core->owned);
    PyMem_Free(core->limits);
    PyMem_Free(core->free_slots);
    PyBuffer_Release(&core->rows);
    PyBuffer_Release(&core->slots);
    Py_TYPE(core)->tp_free(core);
}

/* -- types and module ------------------------------------------------------------------------- */

#define QUICK(name) (PyCFunction)(void (*)(void)) name, METH_FASTCALL | METH_KEYWORDS

static PyMethodDef frame_methods[] = {
    {"mark", QUICK(frame_mark),
     "mark($self, name, at=None)\n--\n\n"
     "Stamp a mark of this process with the current time, or with `at`, a stamp taken elsewhere in\n"
     "ns on the profiler's clock; 0 means missing. A mark set twice keeps its first stamp."},
    {"tag", QUICK(frame_tag), "tag($self, name, value)\n--\n\nSet one of the profiler's tags."},
    {"finish", QUICK(frame_finish),
     "finish($self, at=None)\n--\n\nStamp ``end`` if this process owns it, and commit the frame."},
    {"drop", QUICK(frame_drop),
     "drop($self, reason, at=None)\n--\n\nCommit a frame that was given up, with the reason."},
    {"stamp", (PyCFunction)frame_stamp, METH_VARARGS,
     "Stamp mark number `mark`, if it is not set or not `once`; see `Profiler.stage`."},
    {"__enter__", (PyCFunction)frame_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))frame_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};

static PyMemberDef frame_members[] = {
    {"finished", T_BOOL, offsetof(Frame, finished), READONLY, "Whether the frame has ended."},
    {"outer", T_OBJECT, offsetof(Frame, outer), READONLY, "The frame that was current before it."},
    {"core", T_OBJECT, offsetof(Frame, core), READONLY, "The core of the frame, or None."},
    {NULL, 0, 0, 0, NULL}};

static PyNumberMethods frame_as_number = {.nb_bool = (inquiry)frame_bool};

static PyTypeObject FrameType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "latprof.recorder._core.Frame",
    .tp_doc = "A frame in flight: what `Profiler.frame` returns.\n\n"
              "Used as a context manager, the frame finishes at the end of the block; if the block\n"
              "raises, it is dropped with the name of the exception. It may be passed between\n"
              "threads. Its truth value is False if it is not recorded.",
    .tp_basicsize = offsetof(Frame, stamps),
    .tp_itemsize = 8,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_methods = frame_methods,
    .tp_members = frame_members,
    .tp_as_number = &frame_as_number,
    .tp_repr = (reprfunc)frame_repr,
    .tp_dealloc = (destructor)frame_dealloc,
};

static PyMethodDef core_methods[] = {
    {"frame", QUICK(core_frame),
     "frame($self, frame_id, size=None, source=None, *, start=None, tags=None)\n--\n\n"
     "Begin a frame: `Profiler.frame`."},
    {"record", QUICK(core_record),
     "record($self, frame_id, stamps, size=None, source=None, *, tags=None)\n--\n\n"
     "Record a frame from its stamps: `Profiler.record`."},
    {"write_rows", (PyCFunction)core_write_rows, METH_O,
     "Give rows numbers and write them: as many as the limit allows; return how many."},
    {"start", (PyCFunction)core_start, METH_NOARGS, "Begin to record."},
    {"stop", (PyCFunction)core_stop, METH_NOARGS, "Record and write nothing from now on."},
    {NULL, NULL, 0, NULL}};

static PyMemberDef core_members[] = {
    {"open", T_BOOL, offsetof(Core, open), READONLY, NULL},
    {"begun", T_BOOL, offsetof(Core, begun), READONLY, NULL},
    {"waits", T_BOOL, offsetof(Core, waits), READONLY, NULL},
    {"limit", T_LONGLONG, offsetof(Core, limit), 0, NULL},
    {"started", T_ULONGLONG, offsetof(Core, started), 0, NULL},
    {"skipped", T_ULONGLONG, offsetof(Core, skipped), 0, NULL},
    {"drawn", T_ULONGLONG, offsetof(Core, drawn), 0, NULL},
    {"refused", T_ULONGLONG, offsetof(Core, refused), 0, NULL},
    {"unprotected", T_ULONGLONG, offsetof(Core, unprotected), READONLY, NULL},
    {"tombstones", T_ULONGLONG, offsetof(Core, tombstones), READONLY, NULL},
    {"dropped", T_OBJECT, offsetof(Core, dropped), READONLY, NULL},
    {"stamp_limit", T_LONGLONG, offsetof(Core, stamp_limit), READONLY, NULL},
    {"rss", T_ULONGLONG, offsetof(Core, rss), 0, NULL},
    {"cpu", T_DOUBLE, offsetof(Core, cpu), 0, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyTypeObject CoreType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "latprof.recorder._core.Core",
    .tp_doc = "Stamps frames and writes their rows into a ring, as `_core_python.Core` does.",
    .tp_basicsize = sizeof(Core),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_methods = core_methods,
    .tp_members = core_members,
    .tp_new = core_new,
    .tp_traverse = (traverseproc)core_traverse,
    .tp_clear = (inquiry)core_clear,
    .tp_dealloc = (destructor)core_dealloc,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "latprof.recorder._core",
    .m_doc = "The stamping core in C; `_core_python` is its specification.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__core(void) {
    PyObject *result = PyModule_Create(&module);
    if (!result || PyModule_AddType(result, &CoreType) < 0 ||
        PyModule_AddType(result, &FrameType) < 0 ||
        !(no_frame = PyObject_NewVar(Frame, &FrameType, 1)))
        return NULL;
    memset((char *)no_frame + offsetof(Frame, core), 0, sizeof(Frame) - offsetof(Frame, core));
    no_frame->slot = -1;
    no_frame->finished = 1;
    if (PyModule_AddObjectRef(result, "NO_FRAME", (PyObject *)no_frame) < 0 ||
        PyModule_AddObject(result, "__all__", Py_BuildValue("[sss]", "Core", "Frame", "NO_FRAME")))
        return NULL;
    return result;
}
