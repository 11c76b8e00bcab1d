#pragma once

#include <setjmp.h>

#include <cstddef>
#include <functional>

/// Work that can stop in the middle.
namespace sallyport::handshake {

/// Runs pieces of work, one after another, on a stack of its own: a piece can stop inside a library that knows nothing of it, and go on later. All by one thread; the stack ends in a
/// page that nobody may touch. No exception may leave a piece.
class Fiber {
 public:
    Fiber();   ///< throws std::bad_alloc
    ~Fiber();  ///< no piece may be stopped
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    /// Runs `work` until it ends or stops. None may be stopped here.
    void start(std::move_only_function<void()> work);
    /// Lets the piece that has stopped go on until it ends or stops again.
    void go_on();
    [[nodiscard]] bool stopped() const noexcept { return stopped_; }
    /// From inside a piece: returns when it is to go on.
    void stop();

 private:
    /// What a verification of certificates takes ten times over; only what is touched takes memory.
    static constexpr std::size_t kStack = 256 * 1024;

    static void enter(unsigned high, unsigned low);
    void run_pieces();
    void tell_of_switch_in();
    [[gnu::noinline]] void switch_in();
    [[gnu::noinline]] void switch_out();

    std::byte* memory_ = nullptr;    ///< the page, then the stack
    jmp_buf inside_{}, outside_{};   ///< where each side has stopped; no signal mask, which swapcontext(3) would ask the kernel for each time
    std::move_only_function<void()> work_;
    bool stopped_ = false;
    // For the sanitizers, which must be told of every change of stacks.
    void* outside_fake_stack_ = nullptr;
    void* inside_fake_stack_ = nullptr;
    const void* outside_stack_ = nullptr;
    std::size_t outside_size_ = 0;
    void* inside_thread_ = nullptr;
    void* outside_thread_ = nullptr;
};

}  // namespace sallyport::handshake
