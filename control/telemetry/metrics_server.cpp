#include "control/telemetry/metrics_server.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BOOST_ASIO_NO_DEPRECATED
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <chrono>
#include <list>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "control/channel/shared_memory.h"
#include "control/daemon/logging.h"
#include "control/telemetry/tls.h"

namespace sallyport::telemetry {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;
using Error = boost::system::error_code;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kConnections = 32;
constexpr auto kPatience = 5s;      // for a handshake, a request, an answer
constexpr auto kRest = 120s;        // between two requests: scrapes are at most a minute apart by Prometheus's default
constexpr auto kFresh = 1s;
constexpr auto kForValues = 4s;
constexpr std::size_t kHead = 8192;

/// A scrape in both forms; each is made when it is asked for first.
struct Scrape {
    std::shared_ptr<const Figures> figures;
    Clock::time_point made{};
    std::string plain, open;
};

}  // namespace

struct MetricsServer::State {
    class Session;

    State(const configuration::Metrics& settings, int policy_level)
        : tls(server_context(settings, policy_level).release()), acceptor(context), wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        Error error;
        const auto address = asio::ip::make_address(settings.listen.address.to_string(), error);
        if (error) throw std::runtime_error(settings.listen.to_string() + ": " + error.message());
        const tcp::endpoint endpoint(address, settings.listen.port);
        const auto require = [&](const char* what) {
            if (error) throw std::runtime_error(settings.listen.to_string() + " cannot be " + what + ": " + error.message());
        };
        acceptor.open(endpoint.protocol(), error);
        require("opened");
        acceptor.set_option(asio::socket_base::reuse_address(true), error);
        acceptor.bind(endpoint, error);
        require("listened at");
        acceptor.listen(64, error);
        require("listened at");
    }

    void start() {
        accept();
        thread = std::thread([this] {
            pthread_setname_np(pthread_self(), "metrics");
            while (true) {
                try {
                    context.run();
                    return;
                } catch (const std::exception& error) {   // of one connection: it is closed with what its handler held
                    daemon::log(daemon::Level::error, "metrics_connection_failed", {{"why", error.what()}});
                }
            }
        });
    }

    void accept();
    /// Calls `session` with values as soon as there are fresh ones.
    void want(const std::shared_ptr<Session>& session);
    void answer_waiting();

    std::size_t connections = 0;   ///< before the context: what is pending there counts itself out when that goes
    asio::io_context context{1};
    asio::ssl::context tls;
    tcp::acceptor acceptor;
    channel::Descriptor wake;
    std::thread thread;
    // of the thread
    std::list<std::weak_ptr<Session>> sessions;
    struct Waiting {
        std::shared_ptr<Session> session;
        std::uint64_t request;   ///< each has its number: a session may wait again
    };
    std::vector<Waiting> waiting;
    std::uint64_t requests = 0;
    std::shared_ptr<Scrape> last;
};

/// One connection. Lives as long as something is pending on it.
class MetricsServer::State::Session : public std::enable_shared_from_this<Session> {
 public:
    Session(State& state, tcp::socket socket) : state_(state), stream_(beast::tcp_stream(std::move(socket)), state.tls) { ++state_.connections; }
    ~Session() { --state_.connections; }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    void start() {
        patience(kPatience);
        stream_.async_handshake(asio::ssl::stream_base::server, [self = shared_from_this()](Error error) {
            if (!error) return self->read(kPatience);
            daemon::log(daemon::Level::info, "metrics_client_refused", {{"client", self->peer()}, {"why", error.message()}});
            self->end();
        });
    }
    void end() {
        Error ignored;
        beast::get_lowest_layer(stream_).socket().close(ignored);
    }
    void answer(Scrape* scrape) {
        if (scrape == nullptr) return send(http::status::service_unavailable, "text/plain", "the values did not come in time\n");
        const bool open = parser_->get()[http::field::accept].find("application/openmetrics-text") != beast::string_view::npos;
        std::string& text = open ? scrape->open : scrape->plain;
        if (text.empty()) text = open ? openmetrics_text(*scrape->figures) : prometheus_text(*scrape->figures);
        send(http::status::ok, open ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8", text);
    }

 private:
    [[nodiscard]] std::string peer() {
        Error error;
        const auto endpoint = beast::get_lowest_layer(stream_).socket().remote_endpoint(error);
        return error ? std::string("gone") : endpoint.address().to_string() + ":" + std::to_string(endpoint.port());
    }
    void patience(Clock::duration time) { beast::get_lowest_layer(stream_).expires_after(time); }

    void read(Clock::duration time) {
        parser_.emplace();
        parser_->header_limit(kHead);
        parser_->body_limit(std::uint64_t{0});
        patience(time);
        http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](Error error, std::size_t) {
            if (!error) return self->serve();
            if (error == http::error::end_of_stream || error == asio::ssl::error::stream_truncated || error == beast::error::timeout) return self->end();
            self->send(error == http::error::header_limit ? http::status::request_header_fields_too_large : http::status::bad_request, "text/plain",
                       "GET /metrics, without a body\n", true);
        });
    }
    void serve() {
        const auto& request = parser_->get();
        const beast::string_view target = request.target();
        if (target != "/metrics" && !target.starts_with("/metrics?")) return send(http::status::not_found, "text/plain", "there is /metrics\n");
        if (request.method() != http::verb::get) return send(http::status::method_not_allowed, "text/plain", "GET\n");
        state_.want(shared_from_this());
    }
    void send(http::status status, const char* type, std::string text, bool close = false) {
        response_ = {status, 11};
        response_.set(http::field::content_type, type);
        response_.set(http::field::cache_control, "no-store");
        if (status == http::status::method_not_allowed) response_.set(http::field::allow, "GET");
        // An answer to HEAD has no body; ours has, so nothing may follow it.
        const bool keep = !close && parser_->get().method() != http::verb::head && parser_->get().keep_alive();
        response_.keep_alive(keep);
        response_.body() = std::move(text);
        response_.prepare_payload();
        patience(kPatience);
        http::async_write(stream_, response_, [self = shared_from_this(), keep](Error error, std::size_t) {
            if (error) return self->end();
            if (keep) return self->read(kRest);
            self->patience(kPatience);
            self->stream_.async_shutdown([self](Error) { self->end(); });
        });
    }

    State& state_;
    beast::ssl_stream<beast::tcp_stream> stream_;
    beast::flat_buffer buffer_{2 * kHead};
    std::optional<http::request_parser<http::empty_body>> parser_;
    http::response<http::string_body> response_;
};

void MetricsServer::State::accept() {
    acceptor.async_accept([this](Error error, tcp::socket socket) {
        if (error == asio::error::operation_aborted) return;
        std::erase_if(sessions, [](const std::weak_ptr<Session>& session) { return session.expired(); });
        if (error) {   // out of descriptors: not at once again
            auto timer = std::make_shared<asio::steady_timer>(context, 100ms);
            timer->async_wait([this, timer](Error stopped) {
                if (!stopped) accept();
            });
            return;
        }
        if (connections < kConnections) {   // else the socket closes
            const auto session = std::make_shared<Session>(*this, std::move(socket));
            sessions.push_back(session);
            session->start();
        }
        accept();
    });
}

void MetricsServer::State::want(const std::shared_ptr<Session>& session) {
    if (last && Clock::now() - last->made < kFresh) return session->answer(last.get());
    waiting.push_back({session, ++requests});
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored = write(wake.get(), &one, sizeof one);
    auto timer = std::make_shared<asio::steady_timer>(context, kForValues);
    timer->async_wait([this, timer, session, number = requests](Error stopped) {
        if (!stopped && std::erase_if(waiting, [number](const Waiting& each) { return each.request == number; }) != 0) session->answer(nullptr);
    });
}

void MetricsServer::State::answer_waiting() {
    for (const auto& each : std::exchange(waiting, {})) each.session->answer(last.get());
}

MetricsServer::MetricsServer(const configuration::Metrics& settings, int policy_level) : state_(std::make_unique<State>(settings, policy_level)) {
    state_->start();
}

MetricsServer::~MetricsServer() {
    asio::post(state_->context, [state = state_.get()] {
        Error ignored;
        state->acceptor.close(ignored);
        for (const auto& session : state->sessions)
            if (const auto alive = session.lock()) alive->end();
        state->waiting.clear();
        state->context.stop();
    });
    state_->thread.join();
}

int MetricsServer::fd() const noexcept { return state_->wake.get(); }

bool MetricsServer::wanted() {
    std::uint64_t count = 0;
    return read(state_->wake.get(), &count, sizeof count) == sizeof count;
}

void MetricsServer::publish(std::shared_ptr<const Figures> figures) {
    asio::post(state_->context, [state = state_.get(), figures = std::move(figures)] {
        state->last = std::make_shared<Scrape>(Scrape{figures, Clock::now(), {}, {}});
        state->answer_waiting();
    });
}

}  // namespace sallyport::telemetry
