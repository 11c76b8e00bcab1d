#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "control/channel/attachment.h"
#include "control/flows/handshake_worker.h"
#include "control/running.h"

namespace sallyport {

/// Control's end of the attachment: takes one dataplane at a time, configures it, gives its lanes to the handshake workers, asks it for
/// reports, changes its configuration. Main thread.
class DataplaneLink {
 public:
    DataplaneLink(channel::Descriptor listener, const Running& running,
                  std::vector<std::unique_ptr<flows::HandshakeWorker>>& workers)
        : listener_(std::move(listener)), running_(running), workers_(workers) {}

    /// One round; never blocks.
    void turn();
    [[nodiscard]] int listener_fd() const noexcept { return listener_.get(); }
    [[nodiscard]] int fd() const noexcept { return attachment_ ? attachment_->fd() : -1; }
    [[nodiscard]] bool wants_to_write() const noexcept { return attachment_ && attachment_->wants_to_write(); }

    /// Asks for a report and waits for it, two seconds at most. The error is for a person.
    /// `descriptors` go with the question; they stay the caller's.
    [[nodiscard]] std::expected<nlohmann::json, std::string> ask(const std::string& what,
                                                                 const nlohmann::json& arguments = nlohmann::json::object(),
                                                                 std::span<const int> descriptors = {});
    /// Called when a capture has come to one of its limits, with the dataplane's report of it.
    void on_capture_ended(std::function<void(const nlohmann::json&)> callback) { capture_ended_ = std::move(callback); }

    /// Makes the attached dataplane run another configuration and waits until all its workers do, six seconds at most. The error says why it
    /// refused, and then nothing has changed; one that does not answer is dropped, and gets what Running says when it attaches again. Where
    /// none is attached there is nothing to do: it gets what Running says when it comes.
    [[nodiscard]] std::expected<void, std::string> configure(const channel::DataplaneConfiguration& configuration);

    [[nodiscard]] bool attached() const noexcept { return attached_; }
    [[nodiscard]] std::int32_t pid() const noexcept { return attached_ ? pid_ : 0; }
    [[nodiscard]] std::chrono::system_clock::time_point attached_at() const noexcept { return attached_at_; }
    /// What the dataplane said when it refused the configuration; empty when it did not.
    [[nodiscard]] const std::string& refusal() const noexcept { return refusal_; }

 private:
    void lose(const std::string& why);
    void on_frame(channel::Attachment::Frame frame);
    void on_hello(const nlohmann::json& hello);
    void on_configured(const nlohmann::json& configured, std::vector<channel::Descriptor> descriptors);
    void send(const nlohmann::json& message, std::span<const int> descriptors = {});
    [[nodiscard]] std::expected<nlohmann::json, std::string> send_and_wait(nlohmann::json message, std::chrono::milliseconds patience,
                                                                           std::span<const int> descriptors = {});

    channel::Descriptor listener_;
    const Running& running_;
    std::vector<std::unique_ptr<flows::HandshakeWorker>>& workers_;
    std::unique_ptr<channel::Attachment> attachment_;
    bool greeted_ = false, attached_ = false;
    std::int32_t pid_ = 0;
    std::chrono::system_clock::time_point attached_at_{};
    std::string refusal_;
    std::function<void(const nlohmann::json&)> capture_ended_;
    std::uint64_t next_question_ = 1;
    std::uint64_t waiting_for_ = 0;   ///< number of the question that send_and_wait() waits for; 0: none
    std::expected<nlohmann::json, std::string> answer_;
};

}  // namespace sallyport
