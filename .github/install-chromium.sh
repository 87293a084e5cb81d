#!/usr/bin/env bash
# Puts a chromium on the PATH, in which the tests of the pages run. It takes playwright's, since Ubuntu's own is a snap.
set -euo pipefail
python -m pip install --quiet playwright
python -m playwright install --with-deps chromium
browser=$(python -c "from playwright.sync_api import sync_playwright as p; print(p().start().chromium.executable_path)")
sudo ln -sf "$browser" /usr/local/bin/chromium
