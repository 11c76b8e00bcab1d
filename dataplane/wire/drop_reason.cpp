#include "dataplane/drop_reason.h"

namespace sallyport {

const char* name(DropReason reason) noexcept {
    switch (reason) {
#define SALLYPORT_X(id, sentence) \
    case DropReason::id:          \
        return #id;
        SALLYPORT_DROP_REASONS(SALLYPORT_X)
#undef SALLYPORT_X
        case DropReason::count_:
            break;
    }
    return "unknown";
}

const char* sentence(DropReason reason) noexcept {
    switch (reason) {
#define SALLYPORT_X(id, text) \
    case DropReason::id:      \
        return text;
        SALLYPORT_DROP_REASONS(SALLYPORT_X)
#undef SALLYPORT_X
        case DropReason::count_:
            break;
    }
    return "unknown reason";
}

}  // namespace sallyport
