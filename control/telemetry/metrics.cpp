#include "control/telemetry/metrics.h"

#include <prometheus/text_serializer.h>

#include <array>

#include "crypto/check.h"
#include "crypto/format.h"

namespace sallyport::telemetry {

namespace {

enum class Kind : std::uint8_t { gauge,
                                 counter };

struct Definition {
    Kind kind;
    std::string_view name, labels, help;
};

constexpr std::array kDefinitions{
#define SALLYPORT_X(value, kind, name, labels, help) Definition{Kind::kind, name, labels, help},
    SALLYPORT_METRICS(SALLYPORT_X)
#undef SALLYPORT_X
};
static_assert(kDefinitions.size() == static_cast<std::size_t>(Metric::count_));

/// The next of the labels, which are separated by commas.
std::string_view next(std::string_view& labels) {
    const auto comma = labels.find(',');
    const std::string_view label = labels.substr(0, comma);
    labels.remove_prefix(comma == std::string_view::npos ? labels.size() : comma + 1);
    return label;
}

/// Octets that are not UTF-8 would spoil the whole scrape; what a label holds is a name of the configuration or a certificate's.
std::string label_text(std::string_view value) {
    std::string text;
    for (const char c : value) text += static_cast<unsigned char>(c) < 0x80 ? c : '?';
    return text;
}

}  // namespace

Figures::Figures() {
    for (const Definition& definition : kDefinitions) {
        prometheus::MetricFamily& family = families_.emplace_back();
        family.name = definition.name;
        family.help = definition.help;
        family.type = definition.kind == Kind::counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
    }
}

void Figures::add(Metric metric, double value, std::initializer_list<std::string_view> labels) {
    const Definition& definition = kDefinitions[static_cast<std::size_t>(metric)];
    prometheus::ClientMetric& entry = families_[static_cast<std::size_t>(metric)].metric.emplace_back();
    std::string_view names = definition.labels;
    for (const std::string_view label : labels) {
        SALLYPORT_CHECK(!names.empty());
        entry.label.push_back({std::string(next(names)), label_text(label)});
    }
    SALLYPORT_CHECK(names.empty());
    (definition.kind == Kind::counter ? entry.counter.value : entry.gauge.value) = value;
}

std::string prometheus_text(const Figures& figures) { return prometheus::TextSerializer().Serialize(figures.families()); }

std::string openmetrics_text(const Figures& figures) {
    std::string text;
    const std::string plain = prometheus_text(figures);
    for (std::string_view rest = plain; !rest.empty();) {
        const auto end = rest.find('\n');
        std::string line(rest.substr(0, end));
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (line.starts_with("# ")) {   // "# TYPE NAME counter", "# HELP NAME text": NAME is a counter's if it ends so
            const auto begin = line.find(' ', 2) + 1;
            const auto stop = line.find(' ', begin);
            constexpr std::string_view kTotal = "_total";
            if (std::string_view(line).substr(begin, stop - begin).ends_with(kTotal)) line.erase(stop - kTotal.size(), kTotal.size());
        }
        text += line + '\n';
    }
    return text + "# EOF\n";
}

std::string metrics_table() {
    std::string text = "| name | kind | labels | what |\n|---|---|---|---|\n";
    for (const Definition& definition : kDefinitions) {
        std::string labels;
        for (std::string_view rest = definition.labels; !rest.empty();) labels += sallyport::format("{}`{}`", labels.empty() ? "" : ", ", next(rest));
        text += sallyport::format("| `{}` | {} | {} | {} |\n", definition.name, definition.kind == Kind::counter ? "counter" : "gauge", labels, definition.help);
    }
    return text;
}

}  // namespace sallyport::telemetry
