#pragma once

#include <nlohmann/json_fwd.hpp>

/// SALLYPORT_VIEW_JSON(Type, MEMBER...): to_json() and from_json() of a view, with its members' names; a missing member keeps its default. They are defined in views.cpp
/// alone, and declared elsewhere: what they are made of takes longer to compile than all else of a file.
#ifdef SALLYPORT_VIEWS_ARE_DEFINED_HERE
#include <nlohmann/json.hpp>
#define SALLYPORT_VIEW_JSON(Type, ...)                                                          \
    void to_json(nlohmann::json& nlohmann_json_j, const Type& nlohmann_json_t) {                \
        NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(NLOHMANN_JSON_TO, __VA_ARGS__))                \
    }                                                                                           \
    void from_json(const nlohmann::json& nlohmann_json_j, Type& nlohmann_json_t) {              \
        const Type nlohmann_json_default_obj{};                                                 \
        NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(NLOHMANN_JSON_FROM_WITH_DEFAULT, __VA_ARGS__)) \
    }
#else
#define SALLYPORT_VIEW_JSON(Type, ...)                      \
    void to_json(nlohmann::json& json, const Type& view);   \
    void from_json(const nlohmann::json& json, Type& view);
#endif
