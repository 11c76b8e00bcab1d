#include "control/cli/help.h"

#include <algorithm>

#include "control/cli/render.h"
#include "control/cli/table.h"
#include "control/configuration/schema.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using SettingKind = configuration::Kind;
using configuration::Setting;

bool begins_with(const Command& command, std::span<const std::string> words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
    const std::string_view all = command.words;
    return all == text || (all.starts_with(text) && all[text.size()] == ' ');
}

std::string argument_list(const Command& command) {
    std::string text;
    std::size_t widest = 0;
    for (const Argument& argument : command.arguments) widest = std::max(widest, width(argument.word));
    for (const Argument& argument : command.arguments) text += sallyport::format("    {:<{}}  {}\n", argument.word, widest, argument.help);
    return text;
}

bool is_group(const Setting& setting) {
    return setting.kind == SettingKind::group || setting.kind == SettingKind::groups;
}

/// The setting that a path names; a word that is no setting's name in a list of groups is an element's.
const Setting* find(std::span<const std::string> path) {
    const Setting* setting = &configuration::schema();
    bool in_list = false;
    for (const std::string& word : path) {
        if (!is_group(*setting)) return nullptr;
        const auto found = std::ranges::find(setting->members, word, &Setting::name);
        if (found != setting->members.end()) {
            setting = &*found;
            in_list = setting->kind == SettingKind::groups;
        } else if (in_list) {
            in_list = false;
        } else {
            return nullptr;
        }
    }
    return setting;
}

std::string_view kind_text(const Setting& setting) {
    switch (setting.kind) {
        case SettingKind::boolean:
            return "true or false";
        case SettingKind::integer:
            return "number";
        case SettingKind::text:
            return "text";
        case SettingKind::integers:
            return "list of numbers";
        case SettingKind::texts:
            return "list of texts";
        case SettingKind::group:
            return "group of settings";
        case SettingKind::groups:
            return "list of groups of settings";
    }
    return "";
}

}  // namespace

std::string help_text(Mode mode, std::span<const std::string> words) {
    std::vector<const Command*> found;
    for (const Command& command : commands(mode))
        if (words.empty() || begins_with(command, words)) found.push_back(&command);
    if (found.empty()) return {};
    if (found.size() > 1) {
        std::size_t widest = 0;
        for (const Command* const command : found) widest = std::max(widest, width(command->words));
        std::string text;
        for (const Command* const command : found) text += sallyport::format("{:<{}}  {}\n", command->words, widest, command->help);
        if (words.empty()) text += "\nhelp COMMAND tells how it is written; | match, except, count, last, json, save, no-more filter what is shown.\n";
        return text;
    }
    const Command& command = *found.front();
    std::string text = sallyport::format("{}\n  {}\n", usage(command), command.help);
    text += argument_list(command);
    return text + sallyport::format("  Needs the role {}.\n", management::name_of(command.least));
}

std::string setting_text(std::span<const std::string> path) {
    const Setting* const setting = find(path);
    if (setting == nullptr) return {};
    std::string text;
    if (!path.empty()) {
        text += sallyport::format("{}: {}\n", setting->name, *setting->documentation == 0 ? kind_text(*setting) : setting->documentation);
        Fields fields;
        fields.add("  kind", kind_text(*setting));
        if (!is_group(*setting)) {
            const bool needed = *setting->fallback == 0 && !setting->optional;
            fields.add("  default", needed ? "none: it must be there" : *setting->fallback == 0 ? "none: it may be left out" : setting->fallback);
        }
        if (setting->kind == SettingKind::integer || setting->kind == SettingKind::integers) fields.add("  bounds", sallyport::format("{} to {}", setting->least, setting->most));
        std::vector<std::string> choices;
        for (const std::string_view choice : setting->choices) choices.emplace_back(choice);
        fields.add("  one of", joined(choices));
        fields.add("  policy", setting->requirement);
        text += fields.text();
    }
    if (setting->members.empty()) return text;
    if (!text.empty()) text += '\n';
    std::size_t widest = 0;
    for (const Setting& member : setting->members) widest = std::max(widest, member.name.size());
    for (const Setting& member : setting->members) text += sallyport::format("{:<{}}  {}\n", member.name, widest, member.documentation);
    return text;
}

std::vector<Candidate> settings_below(std::span<const std::string> path) {
    std::vector<Candidate> found;
    if (const Setting* const setting = find(path))
        for (const Setting& member : setting->members) found.push_back({std::string(member.name), member.documentation});
    return found;
}

}  // namespace sallyport::cli
