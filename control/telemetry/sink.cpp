#include "control/telemetry/sink.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "crypto/check.h"

namespace sallyport::telemetry {

Sink::Sink(std::shared_ptr<SinkCounts> counts, std::size_t queue)
    : counts_(std::move(counts)), limit_(queue), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    SALLYPORT_CHECK(wake_.valid());
}

void Sink::start(const char* thread_name) {
    thread_ = std::thread([this, thread_name] {
        pthread_setname_np(pthread_self(), thread_name);
        run();
    });
}

void Sink::offer(Entry entry) {
    bool first = false;
    {
        const std::lock_guard lock(mutex_);
        if (queue_.size() >= limit_) {
            ++counts_->shed;
            return;
        }
        first = queue_.empty();
        queue_.push_back(std::move(entry));
    }
    if (!first) return;   // it has been woken for the one before
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored = write(wake_.get(), &one, sizeof one);
}

std::size_t Sink::waiting() const {
    const std::lock_guard lock(mutex_);
    return queue_.size();
}

std::string Sink::trouble() const {
    const std::lock_guard lock(mutex_);
    return trouble_;
}

void Sink::set_trouble(std::string why) {
    const std::lock_guard lock(mutex_);
    trouble_ = std::move(why);
}

std::vector<Entry> Sink::take(std::size_t most) {
    const std::lock_guard lock(mutex_);
    const std::size_t count = std::min(most, queue_.size());
    std::vector<Entry> taken(std::make_move_iterator(queue_.begin()), std::make_move_iterator(queue_.begin() + static_cast<std::ptrdiff_t>(count)));
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(count));
    return taken;
}

Sink::Clock::time_point Sink::deadline() const {
    const std::lock_guard lock(mutex_);
    return deadline_;
}

bool Sink::ending() const {
    if (!stopping_) return false;
    const std::lock_guard lock(mutex_);
    return queue_.empty() || Clock::now() >= deadline_;
}

void Sink::wait(Clock::time_point until, int fd) {
    // The eventfd says that the queue was empty once: what came between take() and here is still in the queue.
    if (waiting() != 0 && fd < 0) return;
    pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {fd, POLLIN, 0}};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(std::min(until, deadline()) - Clock::now()).count();
    const int timeout = waiting() != 0 ? 0 : static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
    if (poll(fds, fd >= 0 ? 2 : 1, timeout) <= 0) return;
    std::uint64_t count = 0;
    if ((fds[0].revents & POLLIN) != 0) [[maybe_unused]]
        const ssize_t ignored = read(wake_.get(), &count, sizeof count);
}

void Sink::stop(std::chrono::milliseconds grace) noexcept {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard lock(mutex_);
        deadline_ = Clock::now() + grace;
    }
    stopping_ = true;
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored = write(wake_.get(), &one, sizeof one);
    thread_.join();
    const std::lock_guard lock(mutex_);
    counts_->lost += queue_.size();
    queue_.clear();
}

}  // namespace sallyport::telemetry
