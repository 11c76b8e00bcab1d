#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/cli/grammar.h"
#include "control/cli/link.h"
#include "control/cli/output.h"

/// `monitor`: what runs, as rates. Control is asked for totals again and again; the rates are made here.
namespace sallyport::cli {

/// One object at one time: what it is, what it counts, what it has now.
struct Sample {
    std::string name;
    std::vector<std::uint64_t> counters;   ///< totals, in the order of Monitored::counters
    std::vector<std::string> states;       ///< as they are shown, in the order of Monitored::states
};

/// How a thing is monitored.
struct Monitored {
    const char* what;                      ///< "ports"
    const char* object;                    ///< heading of the name
    std::vector<const char*> counters;     ///< headings; those that begin with "octets" are shown as octets
    std::vector<const char*> states;
    std::vector<Sample> (*samples)(const nlohmann::json& result);   ///< throws json::exception for what is of another shape
    bool busiest_first;                    ///< sorted by the first counter's rate
};

/// nullptr: it is not known.
[[nodiscard]] const Monitored* find_monitored(std::string_view what);

/// Rates a second between two looks, as a table: what was not there before counts from 0, a counter that fell has begun anew. `most`: rows.
[[nodiscard]] std::string rates_text(const Monitored& monitored, const std::vector<Sample>& before, const std::vector<Sample>& now, double seconds,
                                     std::size_t most);
/// The same for programs: an array of objects, rates by their headings with _ for blanks and "_per_s" behind.
[[nodiscard]] nlohmann::json rates_json(const Monitored& monitored, const std::vector<Sample>& before, const std::vector<Sample>& now, double seconds);

/// Carries out `monitor WHAT [count N] [interval S]`: a screen that is refreshed until q, or N tables.
int monitor(Link& link, const Output& output, const Parsed& parsed);

}  // namespace sallyport::cli
