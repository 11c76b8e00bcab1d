#include "control/cli/monitor.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <map>
#include <thread>

#include "control/cli/interrupt.h"
#include "control/cli/render.h"
#include "control/cli/table.h"
#include "control/cli/terminal.h"
#include "control/daemon/exit_code.h"
#include "control/management/views.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using namespace sallyport::management;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

std::vector<Sample> of_ports(const json& result) {
    std::vector<Sample> samples;
    for (const auto& port : result.get<std::vector<PortView>>())
        samples.push_back({port.name,
                           {port.packets_in, port.packets_out, port.octets_in, port.octets_out, port.missed, port.errors_in + port.errors_out, port.no_buffer},
                           {port.link ? "up" : "down"}});
    return samples;
}

std::vector<Sample> of_services(const json& result) {
    std::vector<Sample> samples;
    for (const auto& service : result.get<std::vector<ServiceView>>())
        samples.push_back({service.name,
                           {service.flows_total, service.handshakes_done, service.handshakes_failed, service.resumed},
                           {std::to_string(service.flows_now), service.pool}});
    return samples;
}

std::vector<Sample> of_pools(const json& result) {
    std::vector<Sample> samples;
    for (const auto& pool : result.get<std::vector<PoolView>>())
        for (const auto& member : pool.members)
            samples.push_back({pool.name + ' ' + member.name, {member.flows_total, member.failures}, {std::to_string(member.flows_now), member.state}});
    return samples;
}

std::vector<Sample> of_workers(const json& result) {
    std::vector<Sample> samples;
    for (const auto& worker : result.get<std::vector<WorkerView>>())
        samples.push_back({std::to_string(worker.index),
                           {worker.packets_in, worker.packets_out, worker.records_opened, worker.records_sealed, worker.records_failed, worker.retransmitted},
                           {percent(worker.busy_share), std::to_string(worker.flows), std::to_string(worker.pool_free)}});
    return samples;
}

std::vector<Sample> of_flows(const json& result) {
    std::vector<Sample> samples;
    for (const auto& flow : result.get<FlowsView>().flows)
        samples.push_back({flow.id, {flow.client_in, flow.client_out, flow.backend_in, flow.backend_out}, {flow.client, flow.service, flow.member, flow.state}});
    return samples;
}

const std::array kMonitored{
    Monitored{"ports", "port", {"packets in", "packets out", "octets in", "octets out", "missed", "errors", "no buffer"}, {"link"}, of_ports, false},
    Monitored{"services", "service", {"flows", "handshakes", "failed", "resumed"}, {">flows now", "pool"}, of_services, false},
    Monitored{"pools", "pool and member", {"flows", "failures"}, {">flows now", "state"}, of_pools, false},
    Monitored{"workers", "worker", {"packets in", "packets out", "records opened", "records sealed", "failed", "retransmitted"}, {">busy", ">flows", ">buffers free"}, of_workers, false},
    Monitored{"flows", "flow", {"octets from client", "octets to client", "octets from backend", "octets to backend"}, {"client", "service", "member", "state"}, of_flows, true},
};

struct Rated {
    const Sample* sample;
    std::vector<double> rates;
};

std::vector<Rated> rated(const Monitored& monitored, const std::vector<Sample>& before, const std::vector<Sample>& now, double seconds) {
    std::map<std::string, const Sample*, std::less<>> earlier;
    for (const Sample& sample : before) earlier[sample.name] = &sample;
    std::vector<Rated> rows;
    for (const Sample& sample : now) {
        Rated row{&sample, {}};
        const auto found = earlier.find(sample.name);
        for (std::size_t i = 0; i < sample.counters.size(); ++i) {
            const std::uint64_t was = found == earlier.end() ? 0 : found->second->counters[i];
            const std::uint64_t more = sample.counters[i] >= was ? sample.counters[i] - was : sample.counters[i];
            row.rates.push_back(seconds > 0 ? static_cast<double>(more) / seconds : 0);
        }
        rows.push_back(std::move(row));
    }
    if (monitored.busiest_first)
        std::ranges::stable_sort(rows, std::greater{}, [](const Rated& row) { return row.rates[0] + row.rates[1]; });
    return rows;
}

/// Small rates with a digit behind the point, so that one flow in two seconds is not nothing.
std::string rate_text(std::string_view heading, double rate) {
    const auto whole = static_cast<std::uint64_t>(std::llround(rate));
    if (heading.starts_with("octets")) return octets(whole);
    return rate > 0 && rate < 100 && std::abs(rate - static_cast<double>(whole)) >= 0.05 ? sallyport::format("{:.1f}", rate) : quantity(whole);
}

struct Look {
    std::vector<Sample> samples;
    Clock::time_point at;
};

std::expected<Look, CallError> look(Link& link, const Monitored& monitored) {
    constexpr int kFlows = 1000;   // more are not asked for: a screen shows the busiest of them
    json arguments = json::object();
    if (std::string_view(monitored.what) == "flows") arguments["limit"] = kFlows;
    const auto result = link.call({"show", monitored.what}, std::move(arguments));
    if (!result) return std::unexpected(result.error());
    try {
        return Look{monitored.samples(*result), Clock::now()};
    } catch (const json::exception& error) {
        return std::unexpected(CallError{CallError::Kind::broken, {}, std::string("control's answer is not what this version expects: ") + error.what()});
    }
}

double seconds_between(const Look& before, const Look& now) {
    return std::chrono::duration<double>(now.at - before.at).count();
}

std::string local_time() {
    return iso8601(std::chrono::system_clock::now());
}

/// Tables one below the other.
int print(Link& link, const Output& output, const Monitored& monitored, std::uint64_t count, std::chrono::seconds interval, const Pipes& pipes) {
    auto before = look(link, monitored);
    for (std::uint64_t i = 0; before && i < count; ++i) {
        const auto until = before->at + interval;
        while (Clock::now() < until && interrupted() == 0) std::this_thread::sleep_for(std::min<Clock::duration>(until - Clock::now(), std::chrono::milliseconds(100)));
        if (interrupted() != 0) return exit_code::kFailure;
        auto now = look(link, monitored);
        if (!now) {
            before = std::move(now);
            break;
        }
        const double seconds = seconds_between(*before, *now);
        const std::string text = pipes.json ? json{{"time", local_time()}, {"seconds", seconds}, {monitored.what, rates_json(monitored, before->samples, now->samples, seconds)}}.dump() + '\n'
                                            : local_time() + '\n' + rates_text(monitored, before->samples, now->samples, seconds, now->samples.size());
        if (const int code = output.show(text, Paint::states, pipes); code != exit_code::kOk) return code;
        before = std::move(now);
    }
    if (before) return exit_code::kOk;
    output.complain(before.error().text);
    return exit_code_of(before.error());
}

/// The screen belongs to us while it lives; what stood there comes back.
class Screen {
 public:
    Screen() { std::fputs("\x1b[?1049h\x1b[?25l", stdout); }
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;
    ~Screen() {
        std::fputs("\x1b[?25h\x1b[?1049l", stdout);
        std::fflush(stdout);
    }

    static void draw(const std::vector<std::string>& lines, Size size) {
        std::string out = "\x1b[H";
        for (std::size_t i = 0; i + 1 < size.rows && i < lines.size(); ++i) out += lines[i] + "\x1b[K\r\n";
        out += "\x1b[J";
        std::fwrite(out.data(), 1, out.size(), stdout);
        std::fflush(stdout);
    }
};

/// At most so many columns; a colour that begins in them ends in them.
std::string cut(const std::string& line, std::size_t columns) {
    std::string out;
    std::size_t taken = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
        if (line[i] == '\x1b') {
            const std::size_t end = std::min(line.find('m', i), line.size() - 1);
            out += line.substr(i, end + 1 - i);
            i = end;
            continue;
        }
        if ((static_cast<unsigned char>(line[i]) & 0xc0) != 0x80 && taken++ >= columns) break;
        out += line[i];
    }
    return line.contains('\x1b') ? out + std::string(colour::kOff) : out;
}

void draw(const Output& output, const Monitored& monitored, const std::string& table, const std::string& note, std::chrono::seconds interval) {
    const Size size = terminal_size();
    std::vector<std::string> lines{sallyport::format("{} a second, every {} s   {}   q: end", monitored.what, interval.count(), local_time())};
    if (output.colours()) lines[0] = std::string(colour::kBold) + lines[0] + std::string(colour::kOff);
    lines.push_back(note);
    const std::string text = output.colours() ? coloured(table, Paint::states) : table;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        lines.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    for (std::string& line : lines) line = cut(line, size.columns);
    Screen::draw(lines, size);
}

int refresh(Link& link, const Output& output, const Monitored& monitored, std::chrono::seconds interval) {
    Keys keys;
    const Screen screen;
    std::optional<Look> before;
    std::string table, note = "looking ...";
    for (;;) {
        auto now = look(link, monitored);
        if (!now) {
            note = printable(now.error().text);   // it may come back: what was seen last stays
        } else {
            const Size size = terminal_size();
            const std::size_t rows = size.rows > 5 ? size.rows - 5 : 1;
            note = before ? "" : "rates come with the next look";
            table = rates_text(monitored, before ? before->samples : now->samples, now->samples, before ? seconds_between(*before, *now) : 1, rows);
            before = std::move(*now);
        }
        draw(output, monitored, table, note, interval);
        const auto until = Clock::now() + interval;
        Size size = terminal_size();
        while (Clock::now() < until) {
            constexpr std::chrono::milliseconds kLook{500};
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
            const auto key = keys.next(std::max(std::min(left, kLook), std::chrono::milliseconds(0)));
            constexpr int kControlC = 3, kControlD = 4;
            if (key && (*key == 'q' || *key == 'Q' || *key == kControlC || *key == kControlD || *key == -1)) return exit_code::kOk;
            if (interrupted() != 0) return exit_code::kOk;
            if (key && *key == ' ') break;   // now
            const Size is = terminal_size();
            if (is.rows == size.rows && is.columns == size.columns) continue;
            size = is;
            draw(output, monitored, table, note, interval);
        }
    }
}

std::string rate_name(std::string_view heading) {
    std::string name(heading);
    std::ranges::replace(name, ' ', '_');
    return name + "_per_s";
}

}  // namespace

const Monitored* find_monitored(std::string_view what) {
    const auto found = std::ranges::find_if(kMonitored, [&](const Monitored& each) { return what == each.what; });
    return found == kMonitored.end() ? nullptr : &*found;
}

std::string rates_text(const Monitored& monitored, const std::vector<Sample>& before, const std::vector<Sample>& now, double seconds, std::size_t most) {
    std::vector<std::string> headings{monitored.object};
    for (const char* const heading : monitored.counters) headings.push_back(sallyport::format(">{}/s", heading));
    for (const char* const heading : monitored.states) headings.emplace_back(heading);
    Table table(headings);
    const auto rows = rated(monitored, before, now, seconds);
    for (std::size_t i = 0; i < rows.size() && i < most; ++i) {
        std::vector<std::string> cells{rows[i].sample->name};
        for (std::size_t c = 0; c < rows[i].rates.size(); ++c) cells.push_back(rate_text(monitored.counters[c], rows[i].rates[c]));
        std::ranges::copy(rows[i].sample->states, std::back_inserter(cells));
        table.row(std::move(cells));
    }
    if (rows.empty()) return sallyport::format("There are no {}.\n", monitored.what);
    return table.text() + (rows.size() > most ? sallyport::format("{} more\n", rows.size() - most) : std::string());
}

json rates_json(const Monitored& monitored, const std::vector<Sample>& before, const std::vector<Sample>& now, double seconds) {
    json list = json::array();
    for (const Rated& row : rated(monitored, before, now, seconds)) {
        json object{{"name", row.sample->name}};
        for (std::size_t c = 0; c < row.rates.size(); ++c) object[rate_name(monitored.counters[c])] = row.rates[c];
        list.push_back(std::move(object));
    }
    return list;
}

int monitor(Link& link, const Output& output, const Parsed& parsed) {
    const Monitored* const monitored = find_monitored(std::string_view(parsed.command->words).substr(std::string_view("monitor ").size()));
    if (monitored == nullptr) return exit_code::kSoftware;
    const std::chrono::seconds interval(parsed.arguments.value("interval", 2));
    if (parsed.arguments.contains("count"))
        return print(link, output, *monitored, parsed.arguments["count"].get<std::uint64_t>(), interval, parsed.pipes);
    if (!is_interactive()) {
        output.complain("monitor needs a terminal to refresh; with --count N it prints");
        return exit_code::kUsage;
    }
    if (parsed.pipes.json || parsed.pipes.save || !parsed.pipes.stages.empty()) {
        output.complain("a screen that is refreshed goes through no pipe; with \"count N\" monitor prints");
        return exit_code::kUsage;
    }
    return refresh(link, output, *monitored, interval);
}

}  // namespace sallyport::cli
