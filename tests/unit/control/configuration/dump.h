#pragma once

#include <libconfig.h++>
#include <string>

#include "control/configuration/document.h"

/// A text as libconfig and as Document read it, each as one line to compare: types, names, values, in order.
namespace sallyport::configuration {

inline std::string dump(const libconfig::Setting& setting) {
    using Parsed = libconfig::Setting;
    std::string text = setting.getName() != nullptr ? std::string(setting.getName()) + "=" : "";
    switch (setting.getType()) {
        case Parsed::TypeInt:
            return text + "i" + std::to_string(static_cast<int>(setting));
        case Parsed::TypeInt64:
            return text + "l" + std::to_string(static_cast<long long>(setting));
        case Parsed::TypeFloat:
            return text + "f" + std::to_string(static_cast<double>(setting));
        case Parsed::TypeString:
            return text + "s<" + setting.c_str() + ">";
        case Parsed::TypeBoolean:
            return text + (static_cast<bool>(setting) ? "true" : "false");
        case Parsed::TypeNone:
            return text + "none";
        case Parsed::TypeGroup:
        case Parsed::TypeArray:
        case Parsed::TypeList:
            break;
    }
    text += setting.isGroup() ? "{" : setting.isArray() ? "[" : "(";
    for (int i = 0; i < setting.getLength(); ++i) text += dump(setting[i]) + " ";
    return text + ".";
}

inline std::string dump(const Document::Node& node) {
    using Type = Document::Type;
    std::string text = node.name.empty() ? "" : node.name + "=";
    switch (node.type) {
        case Type::integer:
            return text + "i" + std::to_string(node.integer);
        case Type::integer64:
            return text + "l" + std::to_string(node.integer);
        case Type::floating:
            return text + "f" + std::to_string(node.floating);
        case Type::text:
            return text + "s<" + node.text + ">";
        case Type::boolean:
            return text + (node.boolean ? "true" : "false");
        case Type::included:
            return text + "included";
        case Type::group:
        case Type::array:
        case Type::list:
            break;
    }
    text += node.type == Type::group ? "{" : node.type == Type::array ? "[" : "(";
    for (const auto& child : node.children) text += dump(child) + " ";
    return text + ".";
}

inline std::string by_libconfig(const std::string& text) {
    libconfig::Config config;
    try {
        config.readString(text);
    } catch (const libconfig::ParseException& error) {
        return std::string("refused: ") + error.getError();
    }
    return dump(config.getRoot());
}

inline std::string by_document(const std::string& text) {
    const auto document = Document::parse(text);
    return document ? dump(document->root()) : "refused: " + document.error().wrong;
}

}  // namespace sallyport::configuration
