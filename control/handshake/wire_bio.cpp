#include "control/handshake/wire_bio.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace sallyport::handshake {

const BIO_METHOD* WireBio::method() {
    // For the life of the process: BIOs point to it.
    static BIO_METHOD* const made = [] {
        BIO_METHOD* const methods = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "handshake");
        if (methods == nullptr) return methods;
        BIO_meth_set_read_ex(methods, [](BIO* bio, char* to, std::size_t most, std::size_t* length) {
            auto& in = static_cast<WireBio*>(BIO_get_data(bio))->in_;
            BIO_clear_retry_flags(bio);
            *length = std::min(most, in.size());
            if (*length == 0) {
                BIO_set_retry_read(bio);
                return 0;
            }
            std::memcpy(to, in.data(), *length);
            in = in.subspan(*length);
            return 1;
        });
        BIO_meth_set_write_ex(methods, [](BIO* bio, const char* from, std::size_t length, std::size_t* written) {
            auto& out = static_cast<WireBio*>(BIO_get_data(bio))->out_;
            BIO_clear_retry_flags(bio);
            try {
                const auto* octets = reinterpret_cast<const std::byte*>(from);
                out.insert(out.end(), octets, octets + length);
            } catch (const std::bad_alloc&) {  // no exception may pass through libssl
                return 0;
            }
            *written = length;
            return 1;
        });
        BIO_meth_set_ctrl(methods, [](BIO* bio, int what, long, void*) -> long {
            switch (what) {
                case BIO_CTRL_FLUSH: return 1;
                case BIO_CTRL_PENDING: return static_cast<long>(static_cast<WireBio*>(BIO_get_data(bio))->unread());
                default: return 0;
            }
        });
        return methods;
    }();
    return made;
}

BIO* WireBio::make() {
    const BIO_METHOD* const methods = method();
    BIO* const bio = methods != nullptr ? BIO_new(methods) : nullptr;
    if (bio == nullptr) return nullptr;
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    return bio;
}

}  // namespace sallyport::handshake
