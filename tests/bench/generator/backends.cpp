#include "tests/bench/generator/backends.h"

namespace sallyport::generator {

Backends::Backends(const Settings& settings, Side& side, crypto::AeadBatch& batch, const TscClock& clock, const Pattern& pattern, TlsContext* tls)
    : Exchange(side, batch, clock, pattern, tls, settings.records), ends_(settings.most_connections) {
    for (const SocketAddress& address : settings.listen) stack_.listen(address);
}

Backends::~Backends() = default;

bool Backends::head_arrived(BackendEnd& end) {
    const Head& head = end.in.head();
    if (head.status != 0) {
        fail(end, Failure::bad_message, "an answer where a request was expected");
        return false;
    }
    if (end.out.pending()) {
        fail(end, Failure::bad_message, "a request before the answer to the last one was taken");
        return false;
    }
    end.in.expect_body(head.content_length, true, head.start);
    return true;
}

void Backends::message_arrived(BackendEnd& end) {
    std::array<char, kLongestAnswerHead> head;
    const Head& request = end.in.head();
    end.out = {.sent = 0, .body = request.answer_length, .head = static_cast<std::uint32_t>(write_answer_head(request.answer_length, head)), .start = request.start};
    if (request.close) close(end);
}

/// Whoever closes in the middle of a request has lost it; what we were sending is his to want or not.
void Backends::peer_closed(BackendEnd& end) {
    if (!end.in.at_rest()) return fail(end, Failure::closed_early);
    close(end);
}

}  // namespace sallyport::generator
