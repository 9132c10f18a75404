# What `cpack` makes in the build folder: two Debian packages, for running and for developing, and
# one archive of both.
include_guard(GLOBAL)

set(CPACK_GENERATOR DEB TGZ)
set(CPACK_PACKAGE_NAME d2export-runtime)
set(CPACK_PACKAGE_VENDOR d2export)
set(CPACK_PACKAGE_CONTACT "The d2export authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY
    "Runs multimodal LLMs with visual-token pruning from C++ and C")
set(CPACK_PACKAGE_DESCRIPTION "d2export::runtime opens the bundles that d2export writes and answers \
questions about pictures with ONNX Runtime or TensorRT, which are not part of this package.")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_CURRENT_SOURCE_DIR}/../../LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_THREADS 0)

# By architecture, as Debian names it; what a library needs is read from the library.
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libd2export-runtime)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libd2export-runtime-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
# The static library is linked with these.
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
    "libd2export-runtime (= ${PROJECT_VERSION}), libjpeg-dev, libpng-dev")
set(CPACK_ARCHIVE_COMPONENT_INSTALL OFF)
set(CPACK_PACKAGE_FILE_NAME
    d2export-runtime-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_COMPONENTS_ALL runtime development)

include(CPack)
