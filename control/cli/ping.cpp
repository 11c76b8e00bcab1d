#include "control/cli/ping.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "control/cli/interrupt.h"
#include "control/cli/render.h"
#include "control/daemon/exit_code.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using nlohmann::json;

const json kNoProbes = json::array();

const json& probes_of(const json& result) {
    return result.contains("probes") && result["probes"].is_array() ? result["probes"] : kNoProbes;
}

}  // namespace

std::string probe_lines(const json& result, std::size_t& shown) {
    std::string text;
    const json& probes = probes_of(result);
    for (; shown < probes.size(); ++shown) {
        const json& probe = probes[shown];
        const std::string outcome = probe.value("outcome", "");
        if (outcome == "waiting") break;   // those behind it are printed in their order, after it
        const auto sequence = probe.value("sequence", std::uint64_t{0});
        const std::string from = printable(probe.value("from", "")), why = printable(probe.value("why", ""));
        if (outcome == "reply")
            text += sallyport::format("{}: reply from {}, {}\n", sequence, from, duration(probe.value("round_trip_us", std::uint64_t{0}) * 1000));
        else
            text += sallyport::format("{}: {}{}{}{}\n", sequence, printable(outcome), why.empty() ? "" : ", ", why, from.empty() ? "" : " (from " + from + ")");
    }
    return text;
}

std::string ping_summary(const json& result) {
    std::uint64_t least = 0, most = 0, sum = 0, replies = 0;
    for (const json& probe : probes_of(result)) {
        if (probe.value("outcome", "") != "reply") continue;
        const std::uint64_t time = probe.value("round_trip_us", std::uint64_t{0}) * 1000;
        least = replies == 0 ? time : std::min(least, time);
        most = std::max(most, time);
        sum += time;
        ++replies;
    }
    const auto sent = result.value("sent", std::uint64_t{0});
    std::string text = sallyport::format("{} sent, {} received, {} lost", sent, replies, sent - std::min(sent, replies));
    if (replies > 0) text += sallyport::format("; round trip {} least, {} mean, {} most", duration(least), duration(sum / replies), duration(most));
    return text + '\n';
}

int ping(Link& link, const Output& output, const Parsed& parsed) {
    const auto fail = [&](const management::CallError& error) {
        output.complain(error.text);
        return exit_code_of(error);
    };
    const auto started = link.call({"ping", "start"}, parsed.request());
    if (!started) return fail(started.error());
    const bool at_once = !parsed.pipes.json && !parsed.pipes.save && parsed.pipes.stages.empty();
    Pipes straight;
    straight.no_more = true;
    try {
        std::size_t shown = 0;
        std::string text;
        for (;;) {
            constexpr std::chrono::milliseconds kLook{200};
            std::this_thread::sleep_for(kLook);
            const auto result = link.call({"ping", "read"}, {{"id", started->at("id")}});
            if (!result) return fail(result.error());
            const bool done = result->value("done", false) || interrupted() != 0;
            std::string more = probe_lines(*result, shown);
            if (done) more += ping_summary(*result);
            if (at_once && !more.empty()) {
                if (const int code = output.show(std::move(more), Paint::none, straight); code != exit_code::kOk) return code;
            } else {
                text += more;
            }
            if (!done) continue;
            if (!at_once)
                if (const int code = output.show(parsed.pipes.json ? result->dump(2) + '\n' : text, Paint::none, parsed.pipes); code != exit_code::kOk) return code;
            return result->value("received", std::uint64_t{0}) > 0 ? exit_code::kOk : exit_code::kFailure;
        }
    } catch (const json::exception& error) {
        output.complain(sallyport::format("control's answer is not what this version expects: {}", error.what()));
        return exit_code::kProtocol;
    }
}

}  // namespace sallyport::cli
