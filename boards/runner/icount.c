/* Counts the instructions that an emulated program executes between two markers.
 *
 * A plugin for QEMU's TCG. Markers (Thumb, see boards/support/src/count.rs):
 *     start  mov r11, r11   46db
 *     end    mov r10, r10   46d2
 * Prints on stderr, at each end marker and when the emulator exits:
 *     icount region <k> <instructions>
 *     icount total <instructions>
 * Markers are not counted. With the argument `markers=off`, for programs that are not Thumb, there are none. An instruction that its IT block skips is counted: it is fetched,
 * and so the figure does not depend on flags.
 *
 * QEMU's plugin header is in no package, so the few functions used are declared here. This is
 * what changed between the versions of that interface:
 *     1, 2  (QEMU 4.2 to 9.0)  qemu_plugin_insn_data returns a pointer; counting inline exists
 *     3 on  (QEMU 9.1)         qemu_plugin_insn_data copies; the inline functions are gone
 * Compile with -DQEMU_PLUGIN_VERSION=<n> for a version other than 1. Tested with 1 (QEMU 7.2).
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifndef QEMU_PLUGIN_VERSION
#define QEMU_PLUGIN_VERSION 1
#endif

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t plugin_id;
typedef void (*exec_callback)(unsigned int vcpu, void *user);
typedef void (*translate_callback)(plugin_id id, struct qemu_plugin_tb *tb);
typedef void (*exit_callback)(plugin_id id, void *user);
enum { NO_REGISTERS = 0, INLINE_ADD = 0 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, translate_callback callback);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, exec_callback callback,
                                            int flags, void *user);
void qemu_plugin_register_atexit_cb(plugin_id id, exit_callback callback, void *user);
#if QEMU_PLUGIN_VERSION < 3
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *counter,
                                                uint64_t amount);
#else
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t length);
#endif

__attribute__((visibility("default"))) int qemu_plugin_version = QEMU_PLUGIN_VERSION;

enum { START_MARKER = 0x46db, END_MARKER = 0x46d2 };

static uint64_t executed;      /* so far, markers left out */
static uint64_t started_at;    /* `executed` at the last start marker */
static int has_markers = 1;
static int inside;             /* between a start marker and its end */
static unsigned long regions;  /* finished */

static void at_start(unsigned int vcpu, void *user)
{
    (void)vcpu, (void)user;
    inside = 1;
    started_at = executed;
}

static void at_end(unsigned int vcpu, void *user)
{
    (void)vcpu, (void)user;
    if (!inside)
        return;
    inside = 0;
    fprintf(stderr, "icount region %lu %" PRIu64 "\n", regions++, executed - started_at);
}

static uint16_t first_halfword(const struct qemu_plugin_insn *insn)
{
    uint16_t word = 0;
#if QEMU_PLUGIN_VERSION < 3
    memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
#else
    qemu_plugin_insn_data(insn, &word, sizeof word);
#endif
    return word;
}

#if QEMU_PLUGIN_VERSION < 3
static void count(struct qemu_plugin_insn *insn)
{
    qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD, &executed, 1);
}
#else
static void at_instruction(unsigned int vcpu, void *user)
{
    (void)vcpu, (void)user;
    executed++;
}

static void count(struct qemu_plugin_insn *insn)
{
    qemu_plugin_register_vcpu_insn_exec_cb(insn, at_instruction, NO_REGISTERS, NULL);
}
#endif

static void at_translation(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    size_t length = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < length; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        /* Not the size: QEMU 7.2 adds what it peeks at behind the last instruction of a page. No first halfword of
         * a longer instruction looks like a marker. */
        uint16_t word = has_markers ? first_halfword(insn) : 0;
        if (word == START_MARKER)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, at_start, NO_REGISTERS, NULL);
        else if (word == END_MARKER)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, at_end, NO_REGISTERS, NULL);
        else
            count(insn);
    }
}

static void at_exit(plugin_id id, void *user)
{
    (void)id, (void)user;
    fprintf(stderr, "icount total %" PRIu64 "\n", executed);
}

__attribute__((visibility("default")))
int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "markers=off") == 0)
            has_markers = 0;
    qemu_plugin_register_vcpu_tb_trans_cb(id, at_translation);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
