// The parts of three.js 0.187.0 that the report uses: the input of scripts/bundle_three.
export {
  BufferAttribute, BufferGeometry, DoubleSide, LineSegments, Matrix4, Mesh, PerspectiveCamera, Points, REVISION, Scene,
  ShaderMaterial, Texture, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
