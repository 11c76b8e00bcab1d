#pragma once

#include <cstddef>
#include <memory>

#include "control/handshake/handshake.h"
#include "control/handshake/values_in_use.h"

namespace sallyport::flows {

/// What flows have negotiated, kept once for all that negotiated the same: names and protocols are few, flows are many. One thread.
class Negotiations {
 public:
    [[nodiscard]] std::shared_ptr<const handshake::Negotiated> share(handshake::Negotiated negotiated);

 private:
    handshake::ValuesInUse<std::size_t, handshake::Negotiated> known_;   ///< by their hash; of two with the same hash the later one is shared
};

}  // namespace sallyport::flows
