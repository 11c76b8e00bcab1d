#include "dataplane/tcp/delayed_acks.h"

#include <algorithm>
#include <bit>

namespace sallyport::tcp {

DelayedAcks::DelayedAcks(std::uint32_t max_connections)
    : mask_(std::bit_ceil(std::clamp(max_connections, 1u, kMostPlaces)) - 1), memory_((std::size_t{mask_} + 1) * sizeof(Place)),
      places_(static_cast<Place*>(memory_.data())) {}

bool DelayedAcks::push(ControlBlock& cb, Time at) noexcept {
    if (cb.ack_place != kNoPlace) return true;
    if (tail_ - head_ > mask_) return false;
    places_[tail_ & mask_] = {&cb, at};
    cb.ack_place = tail_++ & mask_;
    return true;
}

void DelayedAcks::remove(ControlBlock& cb) noexcept {
    if (cb.ack_place == kNoPlace) return;
    places_[cb.ack_place].cb = nullptr;
    cb.ack_place = kNoPlace;
}

}  // namespace sallyport::tcp
