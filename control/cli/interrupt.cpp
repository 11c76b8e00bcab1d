#include "control/cli/interrupt.h"

namespace sallyport::cli {

namespace {

volatile std::sig_atomic_t flag = 0;

extern "C" void on_interrupt(int) {
    flag = 1;
}

}  // namespace

const volatile std::sig_atomic_t& interrupted() noexcept {
    return flag;
}

void forget_interrupt() noexcept {
    flag = 0;
}

void take_interrupts() noexcept {
    struct sigaction action{};
    action.sa_handler = on_interrupt;
    sigemptyset(&action.sa_mask);
    action.sa_flags = 0;   // no SA_RESTART: what waits is to wake up
    sigaction(SIGINT, &action, nullptr);
}

}  // namespace sallyport::cli
