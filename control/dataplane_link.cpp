#include "control/dataplane_link.h"

#include <poll.h>
#include <unistd.h>

#include "control/daemon/logging.h"

namespace sallyport {

using nlohmann::json;

void DataplaneLink::send(const json& message, std::span<const int> descriptors) {
    if (!attachment_) return;
    if (auto sent = attachment_->send(message.dump(-1, ' ', false, json::error_handler_t::replace), descriptors); !sent) lose(sent.error());
}

void DataplaneLink::lose(const std::string& why) {
    daemon::log(daemon::Level::warning, "dataplane_lost", {{"why", why}});
    attachment_.reset();
    if (attached_)
        for (auto& worker : workers_) worker->detach();
    attached_ = greeted_ = false;
    if (waiting_for_ != 0) {
        waiting_for_ = 0;
        answer_ = std::unexpected("the dataplane went away");
    }
}

void DataplaneLink::turn() {
    if (attached_)
        for (auto& worker : workers_)
            if (worker->broken()) {
                lose("it wrote nonsense into the channel, or does not empty its rings");
                break;
            }
    while (auto socket = channel::accept_from(listener_)) {
        auto arrived = std::make_unique<channel::Attachment>(std::move(*socket));
        const auto peer = arrived->peer();
        if (peer.uid != 0 && peer.uid != geteuid()) {
            (void)arrived->send(json{{"refused", "only root and the user of sallyport-control may attach"}}.dump());
            continue;
        }
        if (attachment_) {
            (void)arrived->send(json{{"refused", "another dataplane is attached (process " + std::to_string(pid_) + ")"}}.dump());
            continue;
        }
        attachment_ = std::move(arrived);
    }
    if (!attachment_) return;
    if (auto flushed = attachment_->flush(); !flushed) return lose(flushed.error());
    while (attachment_) {
        auto frame = attachment_->receive();
        if (!frame) return lose(frame.error());
        if (!*frame) return;
        on_frame(std::move(**frame));
    }
}

void DataplaneLink::on_frame(channel::Attachment::Frame frame) {
    const json message = json::parse(frame.text, nullptr, false);
    try {
        if (message.contains("hello")) return on_hello(message["hello"]);
        if (message.contains("configured") && greeted_) return on_configured(message["configured"], std::move(frame.descriptors));
        if (message.contains("refused")) {
            refusal_ = message["refused"].get<std::string>();
            daemon::log(daemon::Level::error, "dataplane_refused", {{"why", refusal_}});
            return;
        }
        if (message.contains("capture_ended") && attached_) {
            if (capture_ended_) capture_ended_(message["capture_ended"]);
            return;
        }
        if (message.contains("id") && waiting_for_ != 0 && message["id"].get<std::uint64_t>() == waiting_for_) {
            waiting_for_ = 0;
            if (message.contains("answer"))
                answer_ = message["answer"];
            else
                answer_ = std::unexpected(message.value("error", std::string("the dataplane did not say why")));
            return;
        }
        if (message.contains("id")) return;   // too late
    } catch (const json::exception& error) {
        return lose(std::string("it sent what the protocol does not have: ") + error.what());
    }
    lose("it sent what the protocol does not have");
}

void DataplaneLink::on_hello(const json& hello) {
    const auto protocol = hello.at("protocol").get<std::uint32_t>();
    if (protocol != channel::kProtocolVersion) {
        send({{"refused", "channel protocol " + std::to_string(protocol) + " where we speak " + std::to_string(channel::kProtocolVersion) + ": install both programs from one release"}});
        return lose("its channel protocol is " + std::to_string(protocol));
    }
    pid_ = hello.at("pid").get<std::int32_t>();
    greeted_ = true;
    refusal_.clear();
    daemon::log(daemon::Level::info, "dataplane_greets", {{"pid", pid_}, {"version", hello.value("version", "")}, {"generation", hello.value("generation", 0u)}});
    send({{"configure", json::parse(channel::to_json(running_.dataplane()))}, {"user", running_.configuration().user}});
}

void DataplaneLink::on_configured(const json& configured, std::vector<channel::Descriptor> descriptors) {
    refusal_.clear();
    const auto lanes = configured.at("lanes").get<std::size_t>();
    if (attached_) return lose("it says again that it has attached");
    const std::size_t count = workers_.size();
    const auto dataplane_workers = configured.at("workers").get<std::size_t>();
    if (lanes != dataplane_workers * count || lanes > channel::limits::kLanes || descriptors.size() != 1 + count)
        return lose("it passed " + std::to_string(descriptors.size()) + " descriptors and " + std::to_string(lanes) + " lanes");
    auto memory = channel::SharedMemory::attach(std::move(descriptors[0]), static_cast<unsigned>(lanes));
    if (!memory) return lose(memory.error());
    const auto shared = std::make_shared<channel::SharedMemory>(std::move(*memory));
    // By name: what they were opened under may be any configuration before this one.
    for (const json& entry : configured.value("flows", json::array()))
        running_.runtime()->adopt(entry.at("service").get<std::uint64_t>(), entry.at("pool").get<std::uint64_t>(),
                                  entry.at("member").get<std::uint64_t>(), entry.at("flows").get<std::uint64_t>());
    attached_ = true;
    attached_at_ = std::chrono::system_clock::now();
    for (std::size_t h = 0; h < count; ++h) {
        std::vector<flows::Lane> own;
        for (std::size_t w = 0; w < dataplane_workers; ++w) {
            const auto lane = static_cast<unsigned>(w * count + h);
            own.push_back({channel::RingConsumer(shared->ring_to_control(lane)), channel::RingProducer(shared->ring_to_dataplane(lane))});
        }
        workers_[h]->attach(shared, std::move(own), std::move(descriptors[1 + h]));
    }
    daemon::log(daemon::Level::info, "dataplane_attached", {{"pid", pid_}, {"workers", dataplane_workers}, {"lanes", lanes}});
    // A change may have come while it started.
    if (configured.at("generation").get<std::uint32_t>() != running_.dataplane().generation && waiting_for_ == 0)
        if (auto changed = configure(running_.dataplane()); !changed) lose(changed.error());
}

std::expected<json, std::string> DataplaneLink::ask(const std::string& what, const json& arguments, std::span<const int> descriptors) {
    if (!attached_) return std::unexpected("no dataplane is attached" + (refusal_.empty() ? std::string() : ": it refused: " + refusal_));
    return send_and_wait({{"ask", what}, {"arguments", arguments}}, std::chrono::seconds(2), descriptors);
}

std::expected<void, std::string> DataplaneLink::configure(const channel::DataplaneConfiguration& configuration) {
    if (!attached_) return {};
    auto answer = send_and_wait({{"configure", json::parse(channel::to_json(configuration))}, {"user", running_.configuration().user}},
                                std::chrono::seconds(6));   // a worker that hangs ends the dataplane after five
    if (answer) {
        if (answer->value("generation", 0u) == configuration.generation) return {};
        answer = std::unexpected("it runs another configuration than it was told to");
        lose(answer.error());
    }
    return std::unexpected("the dataplane did not take it: " + answer.error());
}

std::expected<json, std::string> DataplaneLink::send_and_wait(json message, std::chrono::milliseconds patience, std::span<const int> descriptors) {
    const std::uint64_t question = next_question_++;
    const bool change = message.contains("configure");
    message["id"] = question;
    waiting_for_ = question;
    send(message, descriptors);
    const auto until = std::chrono::steady_clock::now() + patience;
    while (waiting_for_ == question) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
        if (left <= 0) {
            waiting_for_ = 0;
            const std::string why = "the dataplane did not answer within " + std::to_string(patience.count() / 1000) + " s";
            if (change) lose(why);   // nobody knows what it runs: it attaches again, and is told
            return std::unexpected(why);
        }
        pollfd fds{fd(), static_cast<short>(POLLIN | (wants_to_write() ? POLLOUT : 0)), 0};
        (void)poll(&fds, 1, static_cast<int>(left));
        turn();
    }
    return std::move(answer_);
}

}  // namespace sallyport
