#pragma once

#include <cstdint>

namespace sallyport {

/// Tells whether the kernel took the core away from this thread within a stretch of code, for a store and a load: where a thread has announced a critical
/// section (rseq(2)), the kernel forgets it when it puts the thread back on a core outside of it, and the section announced here is one that nobody is
/// ever in. What the host of a virtual machine takes is not seen, nor are interrupts. For the thread that made it.
class Interruptions {
 public:
    Interruptions() noexcept;
    /// False where the C library has not registered the thread (GLIBC_TUNABLES=glibc.pthread.rseq=0): nothing is seen then.
    [[nodiscard]] bool seen() const noexcept { return announced_ != &none_; }

    void begin() noexcept { *announced_ = section_; }
    /// Since begin().
    [[nodiscard]] bool any() const noexcept { return *announced_ == 0; }

 private:
    volatile std::uint64_t none_ = 0;
    volatile std::uint64_t* announced_ = &none_;   ///< in the thread's area, where the kernel clears it
    std::uint64_t section_ = 1;                    ///< address of the section's description
};

}  // namespace sallyport
