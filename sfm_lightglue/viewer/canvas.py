"""Open3D's window with named geometries and a camera that is set by a viewpoint.

The classic window of Open3D (`Visualizer`, OpenGL) is used and not its newer one (`gui`, Vulkan): with software
rendering the newer one takes a second for a frame, or ends the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image as PilImage

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.viewer.contents import REACH
from sfm_lightglue.viewer.geometries import line_set, triangle_mesh
from sfm_lightglue.viewer.meshes import SCREEN_DEPTH, screen_mesh

FOV_STEP_DEG = 5.0
"""One step of the field of view in Open3D's window."""

KEY_CODES = {
    **{letter: (ord(letter),) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"},
    "+": (ord("="), 334),
    "-": (ord("-"), 333),
    "Q": (ord("Q"), 256),
}
"""GLFW's codes of keys, also those of the number pad, and Escape for Q."""

_ANCHOR = "anchor"


class Canvas:
    """A window.

    Args:
        title: of the window.
        size: (width, height) in pixels.

    Raises:
        SystemExit: if no window can be opened.
    """

    def __init__(self, title: str, size: tuple[int, int]) -> None:
        import open3d as o3d

        self._window = o3d.visualization.VisualizerWithKeyCallback()
        if not self._window.create_window(title, *size):
            raise SystemExit("error: no window could be opened; `screenshot` renders without one")
        self._is_open = True
        self._geometries: dict[str, Any] = {}
        self._screen: dict[str, tuple[Any, tuple[int, int, int, int], float]] = {}
        self._options = self._window.get_render_option()
        self._options.mesh_show_back_face = True
        self._control = self._window.get_view_control()
        # The camera is set in units of the bounding box, which is that of the first geometry.
        corners = np.array([(-1, -1, -1), (1, 1, 1), (0, 0, 0), (0, 0, 0)], np.float64)
        self._geometries[_ANCHOR] = line_set(corners, np.array([(2, 3)]), np.zeros((1, 3)))
        self._window.add_geometry(self._geometries[_ANCHOR], reset_bounding_box=True)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, which the user may change."""
        intrinsic = self._control.convert_to_pinhole_camera_parameters().intrinsic
        return int(intrinsic.width), int(intrinsic.height)

    def on_keys(self, pressed: Callable[[str], None]) -> None:
        """Call a function with each key that is pressed; Open3D's own keys do nothing."""

        def callback(key: str) -> Callable[[Any], bool]:
            def call(_: Any) -> bool:
                pressed(key)
                return False

            return call

        for key, codes in KEY_CODES.items():
            for code in codes:
                self._window.register_key_callback(code, callback(key))

    def on_mouse(
        self,
        button: Callable[[int, int, int], None],
        moved: Callable[[float, float], None],
        wheel: Callable[[float], None],
    ) -> None:
        """Call functions when a button is pressed or let go, the mouse moves, or its wheel turns."""

        def on_button(_: Any, number: int, action: int, modifiers: int) -> bool:
            button(number, action, modifiers)
            return False

        def on_move(_: Any, x: float, y: float) -> bool:
            moved(x, y)
            return False

        def on_wheel(_: Any, x: float, y: float) -> bool:
            wheel(y)
            return False

        self._window.register_mouse_button_callback(on_button)
        self._window.register_mouse_move_callback(on_move)
        self._window.register_mouse_scroll_callback(on_wheel)

    def put(self, name: str, geometry: Any | None) -> None:
        """Show a geometry in place of the one with the same name; None only removes that."""
        before = self._geometries.pop(name, None)
        if before is not None:
            self._window.remove_geometry(before, reset_bounding_box=False)
        if geometry is not None:
            self._window.add_geometry(geometry, reset_bounding_box=False)
            self._geometries[name] = geometry

    def names(self, prefix: str) -> list[str]:
        """Names of the geometries that begin in a way."""
        return [name for name in self._geometries if name.startswith(prefix)]

    def put_on_screen(self, name: str, picture: PilImage.Image | None, place: tuple[int, int]) -> None:
        """Show a picture over the scene, in place of the one with the same name.

        Args:
            name: of the picture.
            picture: None only removes that.
            place: of its upper left corner in pixels.
        """
        self._screen.pop(name, None)
        if picture is None:
            self.put(name, None)
            return
        box = (*place, place[0] + picture.width, place[1] + picture.height)
        depth = SCREEN_DEPTH * (1 + 0.02 * len(self._screen))
        pixels: UInt8Array = np.asarray(picture.convert("RGB"))
        anywhere = screen_mesh(_ANY_VIEW, self.size, box, depth)
        mesh = triangle_mesh(anywhere, pixels)
        self.put(name, mesh)
        self._screen[name] = mesh, box, depth

    def draw(self, view: Viewpoint, point_px: float, background: tuple[float, float, float]) -> None:
        """Draw a frame."""
        import open3d as o3d

        self._options.background_color = np.array(background)
        self._options.point_size = max(point_px, 1.0)
        self._look_from(view)
        size = self.size
        for mesh, box, depth in self._screen.values():
            placed = screen_mesh(view, size, box, depth)
            mesh.vertices = o3d.utility.Vector3dVector(placed.vertices)
            self._window.update_geometry(mesh)
        self._window.update_renderer()
        self.poll()  # this draws

    def poll(self) -> bool:
        """Handle what the user did; False if the window was closed."""
        self._is_open = bool(self._window.poll_events()) and self._is_open
        return self._is_open

    def picture(self) -> PilImage.Image:
        """What the window shows."""
        pixels = np.asarray(self._window.capture_screen_float_buffer(do_render=True))
        return PilImage.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8))

    def close(self) -> None:
        """Close the window."""
        self._window.destroy_window()

    def _look_from(self, view: Viewpoint) -> None:
        """Open3D's zoom is half the visible height at the target, divided by the longest side of the bounding box."""
        control, offset = self._control, view.eye - view.target
        distance = float(np.linalg.norm(offset))
        control.change_field_of_view((view.vertical_fov_deg - control.get_field_of_view()) / FOV_STEP_DEG)
        control.set_constant_z_near(0.75 * SCREEN_DEPTH)
        control.set_constant_z_far(float(np.linalg.norm(view.eye)) + 2 * REACH)
        control.set_lookat(view.target)
        control.set_front(offset / distance)
        control.set_up(-view.cam_from_world.R[1])
        control.set_zoom(distance * np.tan(np.radians(view.vertical_fov_deg) / 2) / 2.0)


_ANY_VIEW = Viewpoint(np.array([0.0, 0.0, -1.0]), np.zeros(3), np.array([0.0, -1.0, 0.0]))
