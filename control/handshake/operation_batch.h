#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "control/handshake/fiber.h"
#include "crypto/public_key/p256.h"
#include "crypto/public_key/rsa.h"
#include "crypto/public_key/x25519.h"

/// Operations with keys that several handshakes have done together, because that costs less than one after another.
namespace sallyport::handshake {

/// What a handshake waits for. Borrowed until it is worked out. Signatures are, where multi_buffer() is there, and enough wait for it to be worth their while: else they are given back as
/// they were, not made, and each is its owner's to make.
using Operation = std::variant<crypto::X25519Agreement*, crypto::P256Signature*, crypto::RsaOperation*>;

/// Runs pieces of handshakes' work. A piece that needs an operation stops there, inside libssl, while others begin; finish() works out what all of them wait for and lets them go
/// on. Used by one thread; nothing is stopped between a finish() and the next run(), so that whoever calls finish() before it returns has nothing to know of it.
class OperationBatch {
 public:
    static constexpr std::size_t kMost = crypto::X25519Agreement::kMost;   ///< pieces stopped at a time

    OperationBatch();
    ~OperationBatch();   ///< nothing may be stopped
    OperationBatch(const OperationBatch&) = delete;
    OperationBatch& operator=(const OperationBatch&) = delete;

    /// Runs `work` until it is done or stops for an operation. It must not throw, and not call run() or finish(). Not when full().
    void run(std::uint64_t owner, std::move_only_function<void()> work);
    [[nodiscard]] bool full() const noexcept { return waiting_.size() == kMost; }
    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_.size(); }
    /// Whether a piece of `owner`'s has stopped: nothing of it may be touched until finish().
    [[nodiscard]] bool holds(std::uint64_t owner) const noexcept;
    /// Works out what is waited for and lets all go on, until none waits for anything more. `after` is called each time one is done.
    void finish(const std::function<void()>& after = {});

    /// From inside run(), under any number of callers: stops until `operation` has been worked out. False, and nothing has been done: this thread is not inside run().
    [[nodiscard]] static bool await(Operation operation);
    /// Whether this thread is inside run().
    [[nodiscard]] static bool inside() noexcept;

    /// How many operations were worked out, and in how many calls of a library: how much there was to do together. `unmade`: of those, signatures that the library refused or got
    /// wrong, so that their owners make them.
    struct Counts {
        std::uint64_t operations = 0, calls = 0, unmade = 0;
    };
    [[nodiscard]] Counts counts() const noexcept { return counts_; }

 private:
    struct Waiting {
        Fiber* fiber;
        std::uint64_t owner;
        Operation operation;
    };
    void begin_or_go_on(Fiber& fiber, std::uint64_t owner, std::move_only_function<void()> work);
    template <typename Kind>
    std::span<Kind* const> work_out(const std::vector<Kind*>& asked, std::size_t least, void (*how)(std::span<Kind>));
    void work_out(const std::vector<Waiting>& waiting);

    std::vector<std::unique_ptr<Fiber>> fibers_;   ///< kMost at most
    std::vector<Fiber*> idle_;                     ///< of them; used last, first taken: its stack is warm
    std::vector<Waiting> waiting_;
    Operation wanted_;                             ///< of the piece that has just stopped
    Fiber* running_ = nullptr;
    Counts counts_;
};

}  // namespace sallyport::handshake
