#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// Which cache lines a thread's code reads and writes. Code that is compiled with -fsanitize=thread, and linked to recorder.cpp in place of the sanitizer, calls this on every load and
/// store of memory that is not provably its own stack; memcpy and the like too, where the linker wraps them. What is written in libraries and in assembler is not seen.
namespace sallyport::test {

inline constexpr std::uintptr_t kLine = 64;

/// A line that this thread has touched.
struct Touched {
    std::uintptr_t line = 0;       ///< its number: address / kLine
    const void* reader = nullptr;  ///< code that read it first; nullptr: none
    const void* writer = nullptr;  ///< likewise
};

/// What one thread touches between on and off.
class Recorder {
 public:
    Recorder();
    ~Recorder();
    Recorder(const Recorder&) = delete;
    Recorder& operator=(const Recorder&) = delete;
    void on();    ///< this thread records here from now on
    void off();
    [[nodiscard]] std::vector<Touched> touched() const;   ///< when off; by line

    /// For the hooks: never in recorded code.
    void note(std::uintptr_t address, std::size_t size, bool write, const void* code) noexcept;

 private:
    std::size_t mask_;
    Touched* table_;       ///< open addressing
    std::size_t used_ = 0;
};

/// A line that both have touched and at least one has written.
struct Shared {
    std::uintptr_t line;
    std::string what;      ///< where it is, and the code of both
};
[[nodiscard]] std::vector<Shared> shared_lines(const Recorder& one, const Recorder& other);

}  // namespace sallyport::test
