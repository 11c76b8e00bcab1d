#include "dataplane/interruptions.h"

#include <sys/rseq.h>

// What the kernel checks of a section before it forgets it: that it ends before the place to go on from when it was interrupted, and that the signature
// stands before that place. Nothing of it ever runs.
asm(R"(
    .pushsection .text
    .globl sallyport_section_of_nobody
    .hidden sallyport_section_of_nobody
    .globl sallyport_section_aborted
    .hidden sallyport_section_aborted
sallyport_section_of_nobody:
    ud2
    .byte 0x0f, 0xb9, 0x3d
    .long 0x53053053
sallyport_section_aborted:
    ud2
    .popsection
)");
static_assert(RSEQ_SIG == 0x53053053);

extern "C" const char sallyport_section_of_nobody[], sallyport_section_aborted[];

namespace sallyport {

Interruptions::Interruptions() noexcept {
    // Const, but for addresses that are known when the program is loaded.
    static const rseq_cs section{.version = 0,
                                 .flags = 0,
                                 .start_ip = reinterpret_cast<std::uint64_t>(sallyport_section_of_nobody),
                                 .post_commit_offset = 2,
                                 .abort_ip = reinterpret_cast<std::uint64_t>(sallyport_section_aborted)};
    if (__rseq_size == 0) return;
    auto* const area = reinterpret_cast<rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
    section_ = reinterpret_cast<std::uint64_t>(&section);
    announced_ = reinterpret_cast<volatile std::uint64_t*>(&area->rseq_cs);
}

}  // namespace sallyport
