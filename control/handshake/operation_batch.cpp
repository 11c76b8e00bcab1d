#include "control/handshake/operation_batch.h"

#include <openssl/err.h>

#include <algorithm>
#include <utility>

#include "crypto/check.h"
#include "crypto/secret.h"

namespace sallyport::handshake {
namespace {

/// Whose piece this thread runs.
thread_local OperationBatch* current = nullptr;

}  // namespace

OperationBatch::OperationBatch() {
    fibers_.reserve(kMost);
    idle_.reserve(kMost);
    waiting_.reserve(kMost);
}

OperationBatch::~OperationBatch() { SALLYPORT_CHECK(waiting_.empty()); }

bool OperationBatch::holds(std::uint64_t owner) const noexcept { return std::ranges::contains(waiting_, owner, &Waiting::owner); }

void OperationBatch::run(std::uint64_t owner, std::move_only_function<void()> work) {
    SALLYPORT_CHECK(!full() && running_ == nullptr);
    if (idle_.empty()) {
        fibers_.push_back(std::make_unique<Fiber>());
        idle_.push_back(fibers_.back().get());
    }
    Fiber* const fiber = idle_.back();
    idle_.pop_back();
    begin_or_go_on(*fiber, owner, std::move(work));
}

void OperationBatch::begin_or_go_on(Fiber& fiber, std::uint64_t owner, std::move_only_function<void()> work) {
    running_ = &fiber;
    OperationBatch* const outer = std::exchange(current, this);
    work ? fiber.start(std::move(work)) : fiber.go_on();
    current = outer;
    running_ = nullptr;
    if (fiber.stopped())
        waiting_.push_back({&fiber, owner, wanted_});
    else
        idle_.push_back(&fiber);
}

bool OperationBatch::await(Operation operation) {
    OperationBatch* const batch = current;
    if (batch == nullptr) return false;
    batch->wanted_ = operation;
    batch->running_->stop();
    ERR_clear_error();   // this thread's queue: what is in it is of others, which have gone on meanwhile
    return true;
}

void OperationBatch::finish(const std::function<void()>& after) {
    SALLYPORT_CHECK(running_ == nullptr);
    while (!waiting_.empty()) {
        std::vector<Waiting> now;
        now.reserve(kMost);
        now.swap(waiting_);
        work_out(now);
        for (const Waiting& each : now) {
            begin_or_go_on(*each.fiber, each.owner, nullptr);
            if (after) after();
        }
    }
}

void OperationBatch::work_out(std::vector<Waiting>& waiting) {
    std::array<crypto::X25519Agreement, kMost> agreements;
    std::array<crypto::X25519Agreement*, kMost> asked{};
    std::size_t count = 0;
    for (const Waiting& each : waiting) {
        asked[count] = std::get<crypto::X25519Agreement*>(each.operation);
        agreements[count] = *asked[count];
        ++count;
    }
    crypto::agree_x25519(std::span(agreements).first(count));
    for (std::size_t i = 0; i < count; ++i) *asked[i] = agreements[i];
    crypto::wipe(&agreements, sizeof agreements);
    counts_.operations += count;
    ++counts_.calls;
}

}  // namespace sallyport::handshake
