#undef _FORTIFY_SOURCE   // its longjmp(3) takes another stack for a mistake

#include "control/handshake/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#include "crypto/check.h"
#include "crypto/sanitizers.h"

#if SALLYPORT_ASAN
#include <sanitizer/common_interface_defs.h>
#else
static void __sanitizer_start_switch_fiber(void**, const void*, std::size_t) {}
static void __sanitizer_finish_switch_fiber(void*, const void**, std::size_t*) {}
#endif
#if SALLYPORT_TSAN
#include <sanitizer/tsan_interface.h>
#else
static void* __tsan_get_current_fiber() { return nullptr; }
static void* __tsan_create_fiber(unsigned) { return nullptr; }
static void __tsan_destroy_fiber(void*) {}
static void __tsan_switch_to_fiber(void*, unsigned) {}
#endif

namespace sallyport::handshake {
namespace {

std::size_t page() noexcept {
    static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return size;
}

}  // namespace

Fiber::Fiber() {
    void* const memory = mmap(nullptr, page() + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<std::byte*>(memory);
    ucontext_t begin, here;
    if (mprotect(memory_, page(), PROT_NONE) != 0 || getcontext(&begin) != 0) {
        munmap(memory_, page() + kStack);
        throw std::bad_alloc();
    }
    begin.uc_stack.ss_sp = memory_ + page();
    begin.uc_stack.ss_size = kStack;
    begin.uc_link = nullptr;
    inside_thread_ = __tsan_create_fiber(0);
    // makecontext(3) hands on ints alone.
    const auto self = reinterpret_cast<std::uintptr_t>(this);
    makecontext(&begin, reinterpret_cast<void (*)()>(&Fiber::enter), 2, static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
    // Once, to be on the stack; from there on the two sides change over by setjmp(3), within which neither returns.
    if (_setjmp(outside_) == 0) {
        tell_of_switch_in();
        SALLYPORT_CHECK(swapcontext(&here, &begin) == 0);
    }
    __sanitizer_finish_switch_fiber(outside_fake_stack_, nullptr, nullptr);
}

Fiber::~Fiber() {
    SALLYPORT_CHECK(!stopped_);
    __tsan_destroy_fiber(inside_thread_);
    munmap(memory_, page() + kStack);
}

void Fiber::start(std::move_only_function<void()> work) {
    SALLYPORT_CHECK(!stopped_);
    work_ = std::move(work);
    switch_in();
}

void Fiber::go_on() {
    SALLYPORT_CHECK(stopped_);
    stopped_ = false;
    switch_in();
}

void Fiber::stop() {
    stopped_ = true;
    switch_out();
}

void Fiber::enter(unsigned high, unsigned low) {
    auto* const self = reinterpret_cast<Fiber*>(static_cast<std::uintptr_t>(high) << 32 | low);
    __sanitizer_finish_switch_fiber(nullptr, &self->outside_stack_, &self->outside_size_);
    self->run_pieces();
}

void Fiber::run_pieces() {
    while (true) {
        switch_out();
        work_();
        work_ = nullptr;   // what it holds goes before its stack is somebody else's
    }
}

void Fiber::tell_of_switch_in() {
    outside_thread_ = __tsan_get_current_fiber();
    __sanitizer_start_switch_fiber(&outside_fake_stack_, memory_ + page(), kStack);
    __tsan_switch_to_fiber(inside_thread_, 0);
}

void Fiber::switch_in() {
    if (_setjmp(outside_) == 0) {
        tell_of_switch_in();
        _longjmp(inside_, 1);
    }
    __sanitizer_finish_switch_fiber(outside_fake_stack_, nullptr, nullptr);
}

void Fiber::switch_out() {
    if (_setjmp(inside_) == 0) {
        __sanitizer_start_switch_fiber(&inside_fake_stack_, outside_stack_, outside_size_);
        __tsan_switch_to_fiber(outside_thread_, 0);
        _longjmp(outside_, 1);
    }
    __sanitizer_finish_switch_fiber(inside_fake_stack_, &outside_stack_, &outside_size_);
}

}  // namespace sallyport::handshake
