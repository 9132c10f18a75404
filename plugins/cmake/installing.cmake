# `cmake --install`: headers, libraries, and the package that find_package(d2export) finds.
include_guard(GLOBAL)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/d2export)
set(D2EXPORT_TARGETS core)
if(D2EXPORT_WITH_CUDA)
    list(APPEND D2EXPORT_TARGETS cuda)
endif()

foreach(name IN LISTS D2EXPORT_TARGETS)
    set_target_properties(d2export_${name} PROPERTIES EXPORT_NAME ${name})
    # One export set each: who links the core alone needs no CUDA.
    install(TARGETS d2export_${name} EXPORT d2export_${name} ARCHIVE COMPONENT development)
    install(EXPORT d2export_${name} NAMESPACE d2export:: FILE d2export_${name}.cmake
            DESTINATION ${package} COMPONENT development)
    install(DIRECTORY ${name}/include/ TYPE INCLUDE COMPONENT development)
endforeach()

foreach(library IN ITEMS d2export_plugin d2export_plugin_register)
    if(TARGET ${library})
        install(TARGETS ${library} LIBRARY COMPONENT runtime)
    endif()
endforeach()

configure_package_config_file(cmake/d2exportConfig.cmake.in d2exportConfig.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(d2exportConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/d2exportConfig.cmake
              ${PROJECT_BINARY_DIR}/d2exportConfigVersion.cmake
        DESTINATION ${package} COMPONENT development)
