#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "control/channel/dataplane_configuration.h"
#include "control/channel/shared_memory.h"

/// The UNIX socket beside the rings: over it the dataplane attaches to control, gets its configuration, passes the rings'
/// descriptors and answers questions. JSON objects, each with its length (4 octets, host order) before it. In order:
///   dataplane: {"hello": {"protocol": 2, "version": "...", "pid": N, "generation": G}}     G: 0 when nothing runs yet
///   control:   {"configure": {...}}                                                        see dataplane_configuration.h
///   dataplane: {"configured": {"generation": G, "lanes": N, "workers": W, "flows": [...]}} with descriptors: memory, then an eventfd for
///              each handshake worker; flows: {"service", "pool", "member": ids of object_id.h, "flows": how many} that outlived another control
///          or  {"refused": "text"}
///   control:   {"ask": "ports", "id": 7, "arguments": {...}} at any time after that
///              with a descriptor where the question says so (the file of a capture)
///   dataplane: {"answer": ..., "id": 7} or {"error": "text", "id": 7}
///   control:   {"configure": {...}, "id": 8}, a change: all or nothing
///   dataplane: {"answer": {"generation": G}, "id": 8}, the workers run it; or {"error": "text", "id": 8}, and nothing has changed
///   dataplane: {"capture_ended": {...}} when a capture has come to one of its limits
namespace sallyport::channel {

/// Longest frame that either side takes.
constexpr std::size_t kMaxFrame = std::size_t{64} << 20;
/// Most descriptors that go with a frame: the memory, and an eventfd for each handshake worker. (The kernel takes 253, SCM_MAX_FD.)
constexpr std::size_t kMaxDescriptors = 1 + limits::kHandshakeWorkers.most;
static_assert(kMaxDescriptors <= 253);

/// One end of the socket: non-blocking, buffered both ways. One thread.
class Attachment {
 public:
    explicit Attachment(Descriptor socket);

    struct Frame {
        std::string text;
        std::vector<Descriptor> descriptors;   ///< that came with it
    };

    /// Queues a frame and sends what the socket takes now; descriptors are borrowed until the frame has left (kept by dup). An error, and
    /// nothing of it queued, when it is longer than kMaxFrame or has more than kMaxDescriptors.
    [[nodiscard]] std::expected<void, std::string> send(std::string_view text, std::span<const int> descriptors = {});
    /// Sends more of what is queued.
    [[nodiscard]] std::expected<void, std::string> flush();
    [[nodiscard]] bool wants_to_write() const noexcept { return !outgoing_.empty(); }

    /// The next whole frame, nullopt when there is none yet, an error when the peer is gone or sent nonsense.
    [[nodiscard]] std::expected<std::optional<Frame>, std::string> receive();

    [[nodiscard]] int fd() const noexcept { return socket_.get(); }
    /// Effective user id and process id of the peer (SO_PEERCRED).
    struct Peer {
        std::uint32_t uid = 0;
        std::int32_t pid = 0;
    };
    [[nodiscard]] Peer peer() const;

 private:
    struct Outgoing {
        std::string octets;
        std::size_t sent = 0;
        std::vector<Descriptor> descriptors;
    };
    Descriptor socket_;
    std::deque<Outgoing> outgoing_;
    std::string incoming_;
    std::vector<Descriptor> incoming_descriptors_;
};

/// Listens at `path` (a stale socket file is replaced; a live one is an error), mode 0600, owned by `uid` and `gid`.
[[nodiscard]] std::expected<Descriptor, std::string> listen_at(const std::string& path, std::uint32_t uid, std::uint32_t gid);
/// Accepts one connection; nullopt when none waits.
[[nodiscard]] std::optional<Descriptor> accept_from(const Descriptor& listener);
/// Connects; the error tells why it is not to be had.
[[nodiscard]] std::expected<Descriptor, std::string> connect_to(const std::string& path);

}  // namespace sallyport::channel
