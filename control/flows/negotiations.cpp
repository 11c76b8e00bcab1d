#include "control/flows/negotiations.h"

#include <functional>
#include <utility>

namespace sallyport::flows {

namespace {

std::size_t hash_of(const handshake::Negotiated& negotiated) {
    std::size_t hash = 0;
    const auto mix = [&]<typename T>(const T& value) { hash = (hash ^ std::hash<T>{}(value)) * 0x9e3779b97f4a7c15; };
    for (const std::uint16_t value : {negotiated.version, negotiated.suite, negotiated.group}) mix(value);
    for (const std::string* text : {&negotiated.signature_scheme, &negotiated.server_name, &negotiated.alpn, &negotiated.anchor}) mix(*text);
    mix(negotiated.resumed);
    mix(negotiated.identity.get());
    return hash;
}

}  // namespace

std::shared_ptr<const handshake::Negotiated> Negotiations::share(handshake::Negotiated negotiated) {
    const std::size_t hash = hash_of(negotiated);
    if (auto known = known_.find(hash); known && *known == negotiated) return known;
    auto shared = std::make_shared<const handshake::Negotiated>(std::move(negotiated));
    known_.add(hash, shared);
    return shared;
}

}  // namespace sallyport::flows
