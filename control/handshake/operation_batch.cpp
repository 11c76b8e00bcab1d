#include "control/handshake/operation_batch.h"

#include <openssl/err.h>

#include <algorithm>
#include <map>
#include <utility>

#include "crypto/check.h"
#include "crypto/public_key/multi_buffer.h"
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

bool OperationBatch::inside() noexcept { return current != nullptr; }

void OperationBatch::finish(const std::function<void()>& after) {
    SALLYPORT_CHECK(running_ == nullptr);
    while (!waiting_.empty()) {
        std::vector<Waiting> now;
        now.reserve(kMost);
        now.swap(waiting_);
        work_out(now);
        for (const Waiting& each : now) {
            begin_or_go_on(*each.fiber, each.owner, nullptr);
            if (after && !each.fiber->stopped()) after();
        }
    }
}

/// Works out what is asked for, unless that is less than `least`. What it has worked out.
template <typename Kind>
std::span<Kind* const> OperationBatch::work_out(const std::vector<Kind*>& asked, std::size_t least, void (*how)(std::span<Kind>)) {
    if (asked.size() < least) return {};
    std::array<Kind, kMost> work;   // one behind the other, as the libraries want it
    for (std::size_t i = 0; i < asked.size(); ++i) work[i] = *asked[i];
    how(std::span(work).first(asked.size()));
    for (std::size_t i = 0; i < asked.size(); ++i) *asked[i] = work[i];
    crypto::wipe(work.data(), sizeof work);
    counts_.operations += asked.size();
    ++counts_.calls;
    return asked;
}

void OperationBatch::work_out(const std::vector<Waiting>& waiting) {
    // A call for eight takes as long as OpenSSL does for two and a half signatures on P-256, and for four with RSA.
    constexpr std::size_t kLeastP256 = 3, kLeastRsa = 5;
    std::vector<crypto::X25519Agreement*> agreements;
    std::vector<crypto::P256Signature*> signatures;
    std::map<std::size_t, std::vector<crypto::RsaOperation*>> rsa;   // by the key's length
    for (const Waiting& each : waiting) {
        if (const auto* const agreement = std::get_if<crypto::X25519Agreement*>(&each.operation))
            agreements.push_back(*agreement);
        else if (const auto* const signature = std::get_if<crypto::P256Signature*>(&each.operation))
            signatures.push_back(*signature);
        else
            rsa[std::get<crypto::RsaOperation*>(each.operation)->key->length()].push_back(std::get<crypto::RsaOperation*>(each.operation));
    }
    work_out(agreements, 1, crypto::agree_x25519);
    if (crypto::multi_buffer() == nullptr) return;
    for (const auto* const each : work_out(signatures, kLeastP256, crypto::sign_p256)) counts_.unmade += !each->made;
    for (const auto& [length, operations] : rsa)
        for (const auto* const each : work_out(operations, kLeastRsa, crypto::rsa_private)) counts_.unmade += !each->done;
}

}  // namespace sallyport::handshake
