#pragma once

#include <cstdint>
#include <memory>

#include "crypto/key_schedule.h"
#include "crypto/record_protection.h"
#include "dataplane/tcp/stack.h"
#include "tests/bench/generator/message.h"
#include "tests/bench/generator/tls_handshake.h"

namespace sallyport::generator {

enum class Phase : std::uint8_t {
    vacant,      ///< this record is free
    connecting,  ///< our SYN is out
    handshake,   ///< TCP is established, libssl is at work
    open,        ///< messages
    closing,     ///< our close_notify and FIN are in the send buffer; what still arrives is discarded until the peer's FIN
    ended,       ///< nothing more will happen; the record becomes vacant when its owner comes to it
};

/// One connection as both sides see it. Small, since there may be a million: what only a handshake needs is in an object that goes with it.
struct Endpoint {
    tcp::Connection* tcp = nullptr;
    Endpoint* next = nullptr;                  ///< in the list that it is on
    std::unique_ptr<Handshake> handshake;      ///< while it runs; a client's longer, where a ticket is wanted
    crypto::RecordProtection read, write;
    crypto::TrafficSecret read_secret, write_secret;   ///< TLS 1.3
    Incoming in;
    Outgoing out;
    std::uint32_t consume = 0;                 ///< octets of records dealt with in this round
    std::uint32_t handshake_left = 0;          ///< octets of a handshake message that go on in the next record
    std::uint16_t suite = 0;
    Phase phase = Phase::vacant;
    bool listed = false;
    bool close_notify_received = false;
    bool close_wanted = false;                 ///< once `out` is sent
    bool peer_closed_first = false;
    bool key_update_owed = false;
};

/// Endpoints in the order in which they are to be looked at; each is on one list at most (`listed`).
class EndpointList {
 public:
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
    void push(Endpoint& end) noexcept {
        end.listed = true;
        end.next = nullptr;
        (last_ != nullptr ? last_->next : first_) = &end;
        last_ = &end;
    }
    /// Precondition: not empty.
    [[nodiscard]] Endpoint& pop() noexcept {
        Endpoint& end = *first_;
        first_ = end.next;
        if (first_ == nullptr) last_ = nullptr;
        end.listed = false;
        return end;
    }

 private:
    Endpoint* first_ = nullptr;
    Endpoint* last_ = nullptr;
};

}  // namespace sallyport::generator
