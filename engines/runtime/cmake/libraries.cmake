# The libraries that programs link, and the package that find_package(d2export) finds:
# d2export::runtime, shared, and d2export::runtime_static.
include_guard(GLOBAL)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/d2export)
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)

function(d2export_library name kind)
    add_library(d2export_${name} ${kind} $<TARGET_OBJECTS:d2export_runtime_objects>)
    add_library(d2export::${name} ALIAS d2export_${name})
    set_target_properties(d2export_${name} PROPERTIES
        EXPORT_NAME ${name}
        VERSION ${PROJECT_VERSION}
        SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
    target_compile_features(d2export_${name} INTERFACE cxx_std_17)
    target_include_directories(d2export_${name} INTERFACE
        $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    target_link_libraries(d2export_${name}
        PRIVATE JPEG::JPEG PNG::PNG Threads::Threads ${CMAKE_DL_LIBS})
    install(TARGETS d2export_${name} EXPORT d2export_${name}
            LIBRARY COMPONENT runtime NAMELINK_COMPONENT development
            ARCHIVE COMPONENT development)
    install(EXPORT d2export_${name} NAMESPACE d2export:: FILE d2export_${name}.cmake
            DESTINATION ${package} COMPONENT development)
endfunction()

d2export_library(runtime_static STATIC)
if(D2EXPORT_SHARED)
    d2export_library(runtime SHARED)
    if(NOT D2EXPORT_SANITIZE)  # Clang's runtime is in the program
        target_link_options(d2export_runtime PRIVATE -Wl,--no-undefined)
    endif()
    d2export_part(shared BUILT "libd2export_runtime.so")
else()
    d2export_part(shared LEFT_OUT "D2EXPORT_SHARED is OFF" ADD D2EXPORT_SHARED=ON)
endif()

install(DIRECTORY include/ TYPE INCLUDE COMPONENT development)
configure_package_config_file(../../plugins/cmake/d2exportConfig.cmake.in d2exportConfig.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(d2exportConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/d2exportConfig.cmake
              ${PROJECT_BINARY_DIR}/d2exportConfigVersion.cmake
        DESTINATION ${package} COMPONENT development)
