#include "dataplane/control_link.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "control/daemon/logging.h"

namespace sallyport {

using nlohmann::json;

namespace {
constexpr auto kRetry = std::chrono::milliseconds(50);
}

void ControlLink::send(const json& message, std::span<const int> descriptors) {
    if (!attachment_) return;
    if (auto sent = attachment_->send(message.dump(-1, ' ', false, json::error_handler_t::replace), descriptors); !sent) lose(sent.error());
}

void ControlLink::lose(const std::string& why) {
    daemon::log(daemon::Level::warning, "control_lost", {{"why", why}});
    attachment_.reset();
    if (appliance_) appliance_->control_lost();
    if (attached_ && appliance_) {
        if (auto detached = appliance_->attach({}, {}); !detached) daemon::log(daemon::Level::error, "detach", {{"why", detached.error()}});
    }
    attached_ = false;
}

std::expected<void, std::string> ControlLink::turn() {
    if (appliance_ && attached_ && appliance_->lanes_broken()) lose("control wrote nonsense into the channel");
    if (appliance_ && attached_)
        for (const json& ended : appliance_->take_ended_captures()) send({{"capture_ended", ended}});
    if (!attachment_) {
        const auto now = std::chrono::steady_clock::now();
        if (now < next_try_) return {};
        next_try_ = now + kRetry;
        auto socket = channel::connect_to(path_);
        if (!socket) {
            if (!told_waiting_) daemon::log(daemon::Level::info, "waiting_for_control", {{"socket", path_}, {"why", socket.error()}});
            told_waiting_ = true;
            return {};
        }
        told_waiting_ = false;
        attachment_ = std::make_unique<channel::Attachment>(std::move(*socket));
        const channel::Attachment::Peer peer = attachment_->peer();
        if (peer.uid != 0 && peer.uid != geteuid()) {
            lose("the socket's owner is user " + std::to_string(peer.uid) + ", neither root nor ours");
            return {};
        }
        send({{"hello",
               {{"protocol", channel::kProtocolVersion},
                {"version", SALLYPORT_VERSION},
                {"pid", getpid()},
                {"generation", appliance_ ? appliance_->configuration().generation : 0}}}});
        return {};
    }
    if (auto flushed = attachment_->flush(); !flushed) {
        lose(flushed.error());
        return {};
    }
    while (attachment_) {
        auto frame = attachment_->receive();
        if (!frame) {
            lose(frame.error());
            return {};
        }
        if (!*frame) return {};
        if (auto done = on_frame(**frame); !done) return done;
    }
    return {};
}

std::expected<void, std::string> ControlLink::on_frame(const channel::Attachment::Frame& frame) {
    const json message = json::parse(frame.text, nullptr, false);
    if (!message.is_object()) {
        lose("control sent something that is not JSON");
        return {};
    }
    if (message.contains("configure")) return on_configure(message);
    if (message.contains("ask") && message["ask"].is_string()) {
        const json id = message.value("id", json());
        if (!appliance_) {
            send({{"error", "the dataplane runs nothing yet"}, {"id", id}});
            return {};
        }
        try {
            auto answer = appliance_->answer(message["ask"].get<std::string>(), message.value("arguments", json::object()), frame.descriptors);
            if (answer)
                send({{"answer", std::move(*answer)}, {"id", id}});
            else
                send({{"error", answer.error()}, {"id", id}});
        } catch (const json::exception& error) {
            send({{"error", error.what()}, {"id", id}});
        }
        return {};
    }
    if (message.contains("refused")) {
        lose("control refused us: " + message["refused"].dump());
        next_try_ = std::chrono::steady_clock::now() + std::chrono::seconds(1);
        return {};
    }
    lose("control sent a message that the protocol does not have");
    return {};
}

/// A configuration that comes while we are attached: taken by every worker, or nothing changes.
void ControlLink::on_change(const json& message, const channel::DataplaneConfiguration& configuration) {
    const json id = message.value("id", json());
    if (auto applied = appliance_->apply(configuration); !applied) {
        daemon::log(daemon::Level::warning, "change_refused", {{"why", applied.error()}});
        return send({{"error", applied.error()}, {"id", id}});
    }
    daemon::log(daemon::Level::info, "changed", {{"generation", configuration.generation}});
    send({{"answer", {{"generation", configuration.generation}}}, {"id", id}});
}

std::expected<void, std::string> ControlLink::on_configure(const json& message) {
    channel::DataplaneConfiguration configuration;
    try {
        configuration = channel::dataplane_configuration_from_json(message["configure"].dump());
        user_ = message.value("user", std::string());
    } catch (const std::exception& error) {
        const std::string why = std::string("configuration not understood: ") + error.what();
        if (attached_)
            send({{"error", why}, {"id", message.value("id", json())}});
        else
            send({{"refused", why}});
        return {};
    }
    if (attached_) {
        on_change(message, configuration);
        return {};
    }
    if (!appliance_) {
        auto started = Appliance::start(configuration, file_prefix_);
        if (!started) {
            send({{"refused", started.error()}});
            if (attachment_) (void)attachment_->flush();
            return std::unexpected(started.error());
        }
        appliance_ = std::move(*started);
    } else if (auto applied = appliance_->apply(configuration); !applied) {
        send({{"refused", applied.error()}});
        return {};
    }
    const unsigned lanes = appliance_->workers() * std::max(1u, configuration.handshake_workers);
    auto memory = channel::SharedMemory::create(lanes);
    if (!memory) {
        send({{"refused", memory.error()}});
        return {};
    }
    std::vector<int> descriptors{memory->descriptor().get()};
    std::vector<channel::Descriptor> wakes;
    for (unsigned i = 0; i < std::max(1u, configuration.handshake_workers); ++i) {
        wakes.emplace_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (!wakes.back().valid()) return std::unexpected("no descriptor left for an eventfd");
        descriptors.push_back(wakes.back().get());
    }
    auto adopted = appliance_->attach(std::move(*memory), std::move(wakes));
    if (!adopted) return std::unexpected(adopted.error());
    attached_ = true;
    send({{"configured",
           {{"generation", configuration.generation}, {"lanes", lanes}, {"workers", appliance_->workers()}, {"flows", *adopted}}}},
         descriptors);
    daemon::log(daemon::Level::info, "attached", {{"generation", configuration.generation}, {"lanes", lanes}});
    return {};
}

}  // namespace sallyport
