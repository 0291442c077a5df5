"""Tests of the front end: its modules in node, its bundle, and what it draws in Chromium."""
