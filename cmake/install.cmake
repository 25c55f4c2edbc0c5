# `make install`: the library, its headers, the program, and what find_package(brood) reads.
include(CMakePackageConfigHelpers)

set(BROOD_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/brood)
install(TARGETS brood EXPORT brood-targets)
if(BROOD_PROGRAM)
  install(TARGETS brood_program)
endif()
install(DIRECTORY brood/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/brood
        FILES_MATCHING PATTERN "*.h" PATTERN "*-inl.h" EXCLUDE PATTERN "cli" EXCLUDE)
install(EXPORT brood-targets NAMESPACE brood:: DESTINATION ${BROOD_CMAKE_DIR})

get_target_property(BROOD_PARTS brood LINK_LIBRARIES)
if(BROOD_PARTS MATCHES "DNNL::dnnl")
  set(BROOD_WITH_ONEDNN ON)
endif()
configure_package_config_file(cmake/brood-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/brood-config.cmake
                              INSTALL_DESTINATION ${BROOD_CMAKE_DIR})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/brood-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/brood-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/brood-config-version.cmake
        DESTINATION ${BROOD_CMAKE_DIR})
