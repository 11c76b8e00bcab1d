#include "control/channel/messages.h"

namespace sallyport::channel {

const char* name(EndReason reason) noexcept {
    switch (reason) {
#define SALLYPORT_X(id, sentence) \
    case EndReason::id:           \
        return #id;
        SALLYPORT_END_REASONS(SALLYPORT_X)
#undef SALLYPORT_X
        case EndReason::count_:
            break;
    }
    return "unknown";
}

const char* sentence(EndReason reason) noexcept {
    switch (reason) {
#define SALLYPORT_X(id, text) \
    case EndReason::id:       \
        return text;
        SALLYPORT_END_REASONS(SALLYPORT_X)
#undef SALLYPORT_X
        case EndReason::count_:
            break;
    }
    return "unknown reason";
}

}  // namespace sallyport::channel
